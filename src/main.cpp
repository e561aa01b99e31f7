#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <exception>
#include <functional>
#include <new>

#include "apps/command.h"
#include "base/error.h"
#include "base/version.h"

int main(int argc, char** argv) {
  using namespace mxgpt;
  CLI::App app{"mxgpt runs gpt-oss and other GPTs from MXFP4 and GGUF weights.", "mxgpt"};
  app.set_version_flag("--version", std::string("mxgpt ") + version());
  app.require_subcommand(1);

  std::function<int()> chosen;
  for (const apps::Command& entry : apps::kCommands) {
    CLI::App* command = app.add_subcommand(entry.name, entry.summary);
    command->callback([run = entry.declare(*command), &chosen] { chosen = run; });
  }
  try {
    app.parse(argc, argv);
    return chosen();
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? apps::kOk : apps::kUsage;
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "mxgpt: out of memory; free some, or take a smaller model or context\n");
  } catch (const std::exception& e) {
    fmt::print(stderr, "mxgpt: {}\n", e.what());
  }
  return apps::kFailed;
}
