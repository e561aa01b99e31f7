// `mxgpt verify`: prints or checks the SHA-256 of a model's files.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/escape.h"
#include "base/mapped_file.h"
#include "cli/command.h"
#include "io/model_hash.h"

namespace mxgpt::cli {

namespace {

namespace fs = std::filesystem;

struct Options {
  fs::path model;
  fs::path manifest;
  std::string expected;
};

std::vector<io::FileHash> read_manifest(const fs::path& path) {
  const MappedFile mapped(path);
  return io::parse_manifest(
      {reinterpret_cast<const char*>(mapped.bytes().data()), mapped.bytes().size()}, path.string());
}

/// Checks a directory against all entries of the manifest, and a file or set of shards against its
/// own entries, all of which must exist.
int check_manifest(const Options& options) {
  const fs::path folder = io::model_folder(options.model);
  const auto files = io::model_files(options.model);
  auto entries = read_manifest(options.manifest);
  if (!fs::is_directory(options.model)) {
    std::erase_if(entries, [&](const io::FileHash& entry) {
      return std::find(files.begin(), files.end(), entry.path) == files.end();
    });
  }
  std::set<std::string> listed;
  std::vector<std::string> present;
  for (const io::FileHash& entry : entries) {
    listed.insert(entry.path);
    if (fs::is_regular_file(folder / entry.path)) present.push_back(entry.path);
  }

  const auto actual = io::hash_files(folder, present);
  size_t failed = 0;
  auto next = actual.begin();
  for (const io::FileHash& entry : entries) {
    std::string_view result = "MISSING";
    if (next != actual.end() && next->path == entry.path) {
      result = next->hash == entry.hash ? "OK" : "FAILED";
      ++next;
    }
    if (result != "OK") ++failed;
    fmt::print("{}: {}\n", escape_for_terminal(entry.path), result);
  }
  for (const std::string& file : files) {
    std::error_code ignored;
    if (listed.count(file) || fs::equivalent(folder / file, options.manifest, ignored)) continue;
    if (!fs::is_directory(options.model)) {
      throw Error(options.manifest.string(),
                  fmt::format("does not list '{}'", escape_for_terminal(file)),
                  "use the manifest that was published with the model");
    }
    fmt::print(stderr, "{}: not in the manifest; not checked\n", escape_for_terminal(file));
  }
  if (failed == 0) return kOk;
  fmt::print(stderr, "mxgpt: {} of {} files do not match the manifest; download them again\n",
             failed, entries.size());
  return kFailed;
}

int verify(const Options& options) {
  if (!fs::exists(options.model)) {
    throw Error(options.model.string(), "model not found", "check the path");
  }
  if (!options.manifest.empty()) return check_manifest(options);
  if (!options.expected.empty()) {
    io::require_sha256(options.model, options.expected);
    fmt::print("{}: OK\n", escape_for_terminal(options.model.string()));
    return kOk;
  }
  fmt::print("{}", io::format_manifest(io::hash_files(io::model_folder(options.model),
                                                      io::model_files(options.model))));
  return kOk;
}

}  // namespace

std::function<int()> verify(CommandOptions& command) {
  auto options = std::make_shared<Options>();
  command.path("model", options->model, "GGUF file (any shard of a set) or checkpoint directory")
      .required()
      .metavar("MODEL");
  const Option manifest =
      command
          .path(
              "--manifest", options->manifest,
              "Check the files listed here, as `hash  path` lines in sha256sum's format; paths are "
              "relative to the model's directory")
          .metavar("SHA256SUMS");
  command.text("--expect-sha256", options->expected, "Check the hash of the whole model")
      .metavar("HASH")
      .excludes(manifest);
  command.footer(
      "Without options, prints the model's manifest, which --manifest and `sha256sum -c` read.\n"
      "The hash of a single-file model is the hash of that file. The hash of a directory or of a "
      "set\n"
      "of shards is the hash of its manifest: `mxgpt verify MODEL | sha256sum`. The manifest lists "
      "all\n"
      "files of the directory and its subdirectories, sorted by path, except SHA256SUMS and names\n"
      "that begin with a dot.");
  return [options] { return verify(*options); };
}

}  // namespace mxgpt::cli
