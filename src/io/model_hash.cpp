#include "io/model_hash.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "base/error.h"
#include "base/escape.h"
#include "base/mapped_file.h"
#include "base/progress.h"
#include "base/sha256.h"
#include "io/gguf.h"

namespace mxgpt::io {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kManifestName = "SHA256SUMS";
constexpr size_t kHexDigits = 64;

/// The digest in lower case, or empty if `text` is not a SHA-256 digest.
std::string normalize_hash(std::string_view text) {
  std::string hash(text);
  for (char& c : hash) {
    if (c >= 'A' && c <= 'F') c += 'a' - 'A';
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return {};
  }
  return hash.size() == kHexDigits ? hash : std::string();
}

// A leading backslash marks a line with an escaped file name (coreutils, "cksum output modes").
constexpr std::pair<char, char> kEscapes[] = {{'\\', '\\'}, {'\n', 'n'}, {'\r', 'r'}};

std::string escape(std::string_view path) {
  std::string out;
  for (const char c : path) {
    const auto* found = std::find_if(std::begin(kEscapes), std::end(kEscapes),
                                     [&](const auto& e) { return e.first == c; });
    if (found == std::end(kEscapes)) {
      out += c;
    } else {
      out += {'\\', found->second};
    }
  }
  return out;
}

std::string unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto* found = std::find_if(std::begin(kEscapes), std::end(kEscapes), [&](const auto& e) {
      return text[i] == '\\' && i + 1 < text.size() && text[i + 1] == e.second;
    });
    if (found == std::end(kEscapes)) {
      out += text[i];
    } else {
      out += found->first;
      ++i;
    }
  }
  return out;
}

bool is_inside_folder(const fs::path& path) {
  return !path.empty() && path.is_relative() &&
         std::none_of(path.begin(), path.end(), [](const fs::path& part) { return part == ".."; });
}

}  // namespace

fs::path model_folder(const fs::path& model) {
  return fs::is_directory(model) ? model : model.parent_path();
}

std::vector<std::string> model_files(const fs::path& model) {
  std::vector<std::string> files;
  if (!fs::is_directory(model)) {
    for (const auto& shard : gguf_shard_paths(model)) files.push_back(shard.filename().string());
    return files;
  }
  for (auto it = fs::recursive_directory_iterator(model); it != fs::recursive_directory_iterator();
       ++it) {
    const bool hidden = it->path().filename().string().starts_with('.');
    if (it->is_directory()) {
      if (hidden) it.disable_recursion_pending();
      continue;
    }
    const std::string relative = it->path().lexically_relative(model).generic_string();
    if (!hidden && relative != kManifestName) files.push_back(relative);
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<FileHash> hash_files(const fs::path& folder, std::span<const std::string> paths,
                                 const std::stop_token& stop) {
  uint64_t total = 0;
  for (const std::string& path : paths) {
    std::error_code ignored;  // opening the file below reports the error
    total += fs::is_regular_file(folder / path, ignored) ? fs::file_size(folder / path) : 0;
  }
  Progress progress("Hashing", total);
  std::vector<FileHash> hashes;
  for (const std::string& path : paths) {
    const MappedFile file(folder / path);
    Sha256 sha;
    for (auto left = file.bytes(); !left.empty();) {
      if (stop.stop_requested()) return hashes;
      const auto chunk = left.first(std::min<size_t>(left.size(), 4 << 20));
      sha.update(chunk);
      file.release_pages(chunk);
      progress.advance(chunk.size());
      left = left.subspan(chunk.size());
    }
    hashes.push_back({path, sha.hex()});
  }
  return hashes;
}

std::string format_manifest(std::span<const FileHash> files) {
  std::string text;
  for (const FileHash& file : files) {
    const std::string escaped = escape(file.path);
    text += fmt::format("{}{}  {}\n", escaped == file.path ? "" : "\\", file.hash, escaped);
  }
  return text;
}

std::vector<FileHash> parse_manifest(std::string_view text, const std::string& where) {
  std::vector<FileHash> files;
  for (int number = 1; !text.empty(); ++number) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with('#')) continue;
    const std::string at = fmt::format("{}: line {}", where, number);
    const bool escaped = line.starts_with('\\');
    if (escaped) line.remove_prefix(1);
    const std::string hash = normalize_hash(line.substr(0, kHexDigits));
    line.remove_prefix(std::min(line.size(), kHexDigits));
    // Two spaces, or a space and the binary-mode marker.
    if (hash.empty() || !(line.starts_with("  ") || line.starts_with(" *"))) {
      throw Error(at, "is not 'hash  path'", "create the manifest with sha256sum or mxgpt verify");
    }
    line.remove_prefix(2);
    const fs::path path = fs::path(escaped ? unescape(line) : std::string(line)).lexically_normal();
    if (!is_inside_folder(path)) {
      throw Error(at, fmt::format("names '{}', which is outside the model's folder",
                                  escape_for_terminal(line)));
    }
    files.push_back({path.generic_string(), hash});
  }
  if (files.empty()) throw Error(where, "lists no files");
  return files;
}

std::string model_sha256(const fs::path& model, const std::stop_token& stop) {
  const auto hashes = hash_files(model_folder(model), model_files(model), stop);
  if (stop.stop_requested()) return {};
  if (hashes.size() == 1 && !fs::is_directory(model)) return hashes[0].hash;
  Sha256 sha;
  sha.update(format_manifest(hashes));
  return sha.hex();
}

void require_sha256(const fs::path& model, std::string_view expected) {
  const std::string wanted = normalize_hash(expected);
  if (wanted.empty()) {
    throw Error("", fmt::format("'{}' is not a SHA-256 digest", escape_for_terminal(expected)),
                "pass 64 hexadecimal digits");
  }
  const std::string actual = model_sha256(model);
  if (actual != wanted) {
    throw Error(model.string(), fmt::format("has SHA-256 {}, expected {}", actual, wanted),
                "download the model again");
  }
}

}  // namespace mxgpt::io
