// SHA-256 hashes of models. The hash of a single file is that of its bytes. The hash of a
// directory, or of a GGUF file in shards, is that of its manifest: one line "hash  path" per file,
// as sha256sum prints it, sorted by path relative to the folder. Hidden files and folders of a
// directory, and a SHA256SUMS at its top, are excluded.
#pragma once

#include <filesystem>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace mxgpt::io {

struct FileHash {
  std::string path;  ///< relative to the model's folder, with '/'
  std::string hash;  ///< 64 lower-case hexadecimal digits
};

/// The folder that the paths of a model's manifest refer to.
std::filesystem::path model_folder(const std::filesystem::path& model);
/// The files of a model, relative to its folder, sorted.
std::vector<std::string> model_files(const std::filesystem::path& model);
/// Hashes files of `folder` and shows progress. Returns early if stop is requested.
std::vector<FileHash> hash_files(const std::filesystem::path& folder,
                                 std::span<const std::string> paths,
                                 const std::stop_token& stop = {});

/// A manifest that `sha256sum -c` reads.
std::string format_manifest(std::span<const FileHash> files);
/// Parses a manifest. Throws Error naming `where` and the line, also for paths outside the folder.
std::vector<FileHash> parse_manifest(std::string_view text, const std::string& where);

/// The hash of a model as defined above; empty if stopped.
std::string model_sha256(const std::filesystem::path& model, const std::stop_token& stop = {});
/// Throws Error if the model's hash differs from `expected`, or if that is not a SHA-256 digest.
/// Case is ignored.
void require_sha256(const std::filesystem::path& model, std::string_view expected);

}  // namespace mxgpt::io
