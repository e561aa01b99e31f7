// Where a model comes from, by SHA-256. The hash of a model that is one file is the hash of that
// file. For a directory, and for a GGUF file in shards, it is the hash of the manifest: a line
// "hash  path" a file, as sha256sum prints it, sorted by path, with paths relative to the folder.
// Of a directory, files and folders whose names begin with a dot, and a SHA256SUMS at its top, are
// left out.
#pragma once

#include <filesystem>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace mxgpt::io {

struct FileHash {
  std::string path;  ///< relative to the folder of the model, with '/'
  std::string hash;  ///< 64 lower-case hexadecimal digits
};

/// The folder that the paths of a model's manifest are relative to.
std::filesystem::path model_folder(const std::filesystem::path& model);
/// The files of a model, relative to its folder, sorted.
std::vector<std::string> model_files(const std::filesystem::path& model);
/// Hashes files of `folder`, with a progress bar; fewer when told to stop.
std::vector<FileHash> hash_files(const std::filesystem::path& folder,
                                 std::span<const std::string> paths,
                                 const std::stop_token& stop = {});

/// The lines that `sha256sum -c` reads.
std::string format_manifest(std::span<const FileHash> files);
/// The reverse. Throws Error naming `where` and the line; refuses paths that lead out of the
/// folder.
std::vector<FileHash> parse_manifest(std::string_view text, const std::string& where);

/// The hash of a model, as defined above; empty when told to stop.
std::string model_sha256(const std::filesystem::path& model, const std::stop_token& stop = {});
/// Throws Error if the hash of the model is another, or if `expected` is no SHA-256. Case is
/// ignored.
void require_sha256(const std::filesystem::path& model, std::string_view expected);

}  // namespace mxgpt::io
