#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <exception>
#include <functional>
#include <new>

#include "base/escape.h"
#include "base/version.h"
#include "cli/command.h"
#include "kernels/cpu/isa.h"

int main(int argc, char** argv) {
  using namespace mxgpt;
  spdlog::set_default_logger(spdlog::stderr_color_mt("mxgpt"));  // what it prints are answers
  CLI::App app{"mxgpt runs gpt-oss and other GPTs from MXFP4 and GGUF weights.", "mxgpt"};
  app.set_version_flag("--version", [] {
    return fmt::format("mxgpt {}, kernels for {}", mxgpt::version(),
                       mxgpt::kernels::isa_name(mxgpt::kernels::isa()));
  });
  app.require_subcommand(0, 1);
  app.failure_message([](const CLI::App*, const CLI::Error& e) {
    return fmt::format("mxgpt: {}; see `mxgpt --help`, or `mxgpt COMMAND --help`\n",
                       mxgpt::escape_for_terminal(e.what(), 1000));
  });

  std::function<int()> selected;
  for (const mxgpt::cli::Command& entry : mxgpt::cli::kCommands) {
    CLI::App* command = app.add_subcommand(entry.name, entry.summary);
    command->callback([run = entry.declare(*command), &selected] { selected = run; });
  }
  app.allow_extras();  // so that a mistyped command can be named; after the commands, which would
                       // inherit it
  try {
    app.parse(argc, argv);
    if (!app.remaining().empty()) {
      const std::string first = app.remaining().front();
      throw CLI::ExtrasError(
          fmt::format("there is no {} '{}'", first.starts_with('-') ? "option" : "command", first),
          CLI::ExitCodes::ExtrasError);
    }
    if (!selected) {
      fmt::print("{}", app.help());
      return mxgpt::cli::kUsage;
    }
    return selected();
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? mxgpt::cli::kOk : mxgpt::cli::kUsage;
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "mxgpt: out of memory; free some, or take a smaller model or context\n");
  } catch (const std::exception& e) {
    fmt::print(stderr, "mxgpt: {}\n", mxgpt::escape_for_terminal(e.what(), 4000));
  }
  return mxgpt::cli::kFailed;
}
