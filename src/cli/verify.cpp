// mxgpt verify: SHA-256 of a model's files, printed or compared.
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

/// A directory is checked against all that the manifest lists; a file, or a set of shards, against
/// its own lines, all of which must be there.
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
                  "take the manifest that was published with the model");
    }
    fmt::print(stderr, "{}: not in the manifest, not checked\n", escape_for_terminal(file));
  }
  if (failed == 0) return kOk;
  fmt::print(stderr, "mxgpt: {} of {} files are not as the manifest says; fetch them again\n",
             failed, entries.size());
  return kFailed;
}

int verify(const Options& options) {
  if (!fs::exists(options.model)) {
    throw Error(options.model.string(), "does not exist", "check the path");
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

std::function<int()> verify(CLI::App& command) {
  auto options = std::make_shared<Options>();
  command
      .add_option("model", options->model,
                  "A GGUF file (any shard of a set) or a checkpoint directory")
      ->required()
      ->type_name("MODEL");
  auto* manifest =
      command.add_option("--manifest", options->manifest,
                         "Check the files that this list names: lines 'hash  path' as sha256sum "
                         "prints them, with paths relative to the folder of the model");
  manifest->type_name("SHA256SUMS");
  command.add_option("--expect-sha256", options->expected, "Check the hash of the whole model")
      ->type_name("HASH")
      ->excludes(manifest);
  command.footer(
      "Without an option, prints the manifest of the model, which --manifest and `sha256sum -c` "
      "read.\n"
      "The hash of a model that is one file is the hash of that file. The hash of a directory, or "
      "of a set\n"
      "of shards, is that of its manifest: `mxgpt verify MODEL | sha256sum`. The manifest lists "
      "all files of\n"
      "a directory and its subfolders, sorted by path, without those whose names begin with a dot "
      "and\n"
      "without SHA256SUMS itself.");
  return [options] { return verify(*options); };
}

}  // namespace mxgpt::cli
