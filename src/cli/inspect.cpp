// `mxgpt inspect`: prints the metadata, tensors and tokenizer of a model file, as text or JSON.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/escape.h"
#include "base/json.h"
#include "cli/command.h"
#include "io/gguf.h"
#include "io/safetensors.h"
#include "text/chat/known_chat_templates.h"
#include "text/tokenizer/tokenizer.h"
#include "text/unicode.h"

namespace mxgpt::cli {

namespace {

namespace fs = std::filesystem;

constexpr size_t kShownElements = 6;     // per array
constexpr size_t kShownCharacters = 80;  // per string

struct SpecialToken {
  int64_t id;
  std::string token;
};

struct TokenizerInfo {
  std::string kind;
  std::string pre_tokenizer;  // empty if the file does not name one
  size_t vocabulary = 0;
  std::optional<SpecialToken> bos;
  std::vector<SpecialToken> eos;  // end-of-sequence tokens
};

struct Entry {
  std::string key;
  std::string type;  // empty for JSON files
  std::string text;  // shortened
};

struct FileReport {
  std::string path;
  std::string format;
  std::string architecture;
  std::string name;
  std::optional<TokenizerInfo> tokenizer;
  std::string tokenizer_problem;  // error, if the tokenizer cannot be read
  std::optional<int64_t> context;
  std::string chat_format;                          // empty if unknown
  std::optional<std::string> chat_template_tokens;  // control tokens of an unknown template
  std::vector<Entry> metadata;
  json::object metadata_json;
  const io::FileTensors* tensors;
};

std::string valid_utf8(std::string_view text) {
  std::string out;
  text::unicode::append_replacing_invalid(out, text);
  return out;
}

json::value to_json(const io::GgufScalar& scalar) {
  return std::visit(
      [](const auto& v) -> json::value {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, std::string_view>) {
          return json::value(valid_utf8(v));
        } else if constexpr (std::is_same_v<T, double>) {
          return std::isfinite(v) ? json::value(v) : json::value(nullptr);
        } else {
          return json::value(v);
        }
      },
      scalar);
}

json::value to_json(const io::GgufValue& value) {
  if (!value.is_array) return to_json(value.elements(1)[0]);
  json::array array;
  array.reserve(value.size);
  for (const io::GgufScalar& element : value.elements(value.size))
    array.push_back(to_json(element));
  return array;
}

/// A string, in quotes if it is an array element.
std::string format_string(std::string_view s, bool quoted) {
  const std::string safe = escape_for_terminal(s, kShownCharacters);
  return quoted ? fmt::format("\"{}\"", safe) : safe;
}

std::string format_number(double number) {
  return fmt::format("{:.7g}", number);
}

/// The first elements, as many as fit on a line. Calls `text_of(i)` for i from 0 in order.
template <class TextOf>
std::string format_array(size_t size, const TextOf& text_of) {
  std::string out = "[";
  for (size_t i = 0; i < size; ++i) {
    if (i > 0) out += ", ";
    if (i == kShownElements || out.size() > kShownCharacters) return out + "…]";
    out += text_of(i);
  }
  return out + "]";
}

std::string format_scalar(const io::GgufScalar& scalar, bool quoted) {
  return std::visit(
      [&](const auto& v) {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, std::string_view>) {
          return format_string(v, quoted);
        } else if constexpr (std::is_same_v<T, double>) {
          return format_number(v);
        } else {
          return fmt::format("{}", v);
        }
      },
      scalar);
}

std::string format_value(const io::GgufValue& value) {
  const auto shown = value.elements(kShownElements);
  if (!value.is_array) return format_scalar(shown[0], false);
  return format_array(value.size, [&](size_t i) { return format_scalar(shown[i], true); });
}

std::string format_value(const json::value& value, bool quoted) {
  if (value.is_string()) return format_string(value.get_string(), quoted);
  if (value.is_double()) return format_number(value.get_double());
  if (!value.is_array()) return escape_for_terminal(json::serialize(value), kShownCharacters);
  const json::array& array = value.get_array();
  return format_array(array.size(), [&](size_t i) { return format_value(array[i], true); });
}

/// Flattens nested objects to dotted keys. JSON depth is limited, so recursion is, too.
void flatten(const json::object& object, const std::string& prefix, std::vector<Entry>& out) {
  for (const auto& [key, value] : object) {
    const std::string path = prefix + escape_for_terminal(key);
    if (value.is_object() && !value.get_object().empty()) {
      flatten(value.get_object(), path + ".", out);
    } else {
      out.push_back({path, "", format_value(value, false)});
    }
  }
}

TokenizerInfo gguf_tokenizer(const io::GgufMetadata& metadata) {
  const io::GgufStrings tokens = metadata.strings("tokenizer.ggml.tokens");
  TokenizerInfo info;
  info.kind = metadata.string("tokenizer.ggml.model");
  info.pre_tokenizer = metadata.string_or("tokenizer.ggml.pre", "");
  info.vocabulary = tokens.size();
  const auto special = [&](std::string_view key) {
    SpecialToken token{metadata.integer(key, 0, UINT32_MAX), "not in the vocabulary"};
    auto at = tokens.begin();
    for (int64_t i = 0; i < token.id && at != tokens.end(); ++i) ++at;
    if (at != tokens.end()) token.token = *at;
    return token;
  };
  if (metadata.contains("tokenizer.ggml.bos_token_id"))
    info.bos = special("tokenizer.ggml.bos_token_id");
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
    if (metadata.contains(key)) info.eos.push_back(special(key));
  }
  return info;
}

TokenizerInfo checkpoint_tokenizer(const io::Checkpoint& checkpoint,
                                   const text::Tokenizer& tokenizer) {
  TokenizerInfo info;
  info.kind = tokenizer.kind();
  info.vocabulary = static_cast<size_t>(tokenizer.vocab_size());
  const auto special = [&](const json::Node& id) {
    const int64_t number = id.integer(0, INT32_MAX);
    const std::string_view token = tokenizer.id_to_token(static_cast<text::TokenId>(number));
    return SpecialToken{number, token.empty() ? "not in the vocabulary" : std::string(token)};
  };
  // generation_config.json may list more end tokens than config.json.
  for (const json::Node& node : {checkpoint.generation_config(), checkpoint.config()}) {
    if (const auto bos = node.find("bos_token_id"); bos && !info.bos) info.bos = special(*bos);
    const auto eos = node.find("eos_token_id");
    if (!eos || !info.eos.empty()) continue;
    if (eos->raw().is_array()) {
      for (size_t i = 0; i < eos->array().size(); ++i) info.eos.push_back(special(eos->at(i)));
    } else {
      info.eos.push_back(special(*eos));
    }
  }
  return info;
}

/// Reports a tokenizer that cannot be read, and continues.
template <class Read>
void read_tokenizer(FileReport& report, const Read& read) {
  try {
    report.tokenizer = read();
  } catch (const Error& e) {
    report.tokenizer_problem = e.what();
  }
}

/// Identifies the chat format. Models without a chat template get no such line.
void read_chat_format(FileReport& report, const text::ChatTemplate& chat_template,
                      const std::function<bool(std::string_view)>& has_token) {
  const auto name = text::detect_chat_format(chat_template, has_token);
  if (name) report.chat_format = *name;
  if (!name && !chat_template.text.empty())
    report.chat_template_tokens = text::control_tokens_in(chat_template.text);
}

FileReport report_gguf(const io::GgufFile& file) {
  const io::GgufMetadata& metadata = file.metadata();
  FileReport report;
  report.format = fmt::format("GGUF version {}", file.version());
  report.architecture = metadata.string_or("general.architecture", "");
  report.name = metadata.string_or("general.name", "");
  const std::string context_key = report.architecture + ".context_length";
  if (metadata.contains(context_key)) report.context = metadata.integer(context_key, 0, INT64_MAX);
  if (metadata.contains("tokenizer.ggml.model")) {
    read_tokenizer(report, [&] {
      TokenizerInfo info = gguf_tokenizer(metadata);
      const io::GgufStrings tokens = metadata.strings("tokenizer.ggml.tokens");
      read_chat_format(report, text::ChatTemplate::from_gguf(metadata),
                       [&](std::string_view token) {
                         return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
                       });
      return info;
    });
  }
  for (const auto& [key, value] : metadata.entries()) {
    report.metadata.push_back(
        {escape_for_terminal(key), value.type_description(), format_value(value)});
    report.metadata_json[valid_utf8(key)] = to_json(value);
  }
  report.tensors = &file.tensors();
  return report;
}

FileReport report_checkpoint(const io::Checkpoint& checkpoint) {
  const json::Node config = checkpoint.config();
  FileReport report;
  report.format = "checkpoint";
  report.architecture = config.string_or("model_type", "");
  if (config.find("max_position_embeddings")) {
    report.context = config["max_position_embeddings"].integer(0, INT64_MAX);
  }
  if (fs::exists(checkpoint.tokenizer_path())) {
    read_tokenizer(report, [&] {
      const auto tokenizer = text::Tokenizer::load(checkpoint.tokenizer_path());
      const auto has = [&](std::string_view token) {
        return tokenizer->token_to_id(token).has_value();
      };
      read_chat_format(
          report, text::ChatTemplate::from_checkpoint(checkpoint.tokenizer_path().parent_path()),
          has);
      return checkpoint_tokenizer(checkpoint, *tokenizer);
    });
  }
  flatten(config.object(), "", report.metadata);
  report.metadata_json = config.object();
  report.tensors = &checkpoint.tensors();
  return report;
}

FileReport report_safetensors(const io::SafetensorsFile& file) {
  FileReport report;
  report.format = "safetensors";
  for (const auto& [key, value] : file.metadata()) {
    report.metadata.push_back({escape_for_terminal(key), "", format_string(value, false)});
    report.metadata_json[key] = value;
  }
  report.tensors = &file.tensors();
  return report;
}

struct Total {
  size_t tensors = 0;
  uint64_t bytes = 0;
};

std::map<std::string, Total> totals(const io::FileTensors& tensors) {
  std::map<std::string, Total> out;
  for (const io::FileTensor& tensor : tensors) {
    Total& total = out[tensor.type];
    ++total.tensors;
    total.bytes += tensor.bytes.size();
  }
  return out;
}

json::value to_json(const SpecialToken& token) {
  return {{"id", token.id}, {"token", valid_utf8(token.token)}};
}

void print_json(const FileReport& report) {
  json::object out{{"path", valid_utf8(report.path)},
                   {"format", report.format},
                   {"architecture", valid_utf8(report.architecture)}};
  if (!report.name.empty()) out["name"] = valid_utf8(report.name);
  if (report.context) out["context"] = *report.context;
  if (!report.chat_format.empty()) out["chat_format"] = report.chat_format;
  if (report.chat_template_tokens) out["chat_format"] = nullptr;
  if (const auto& t = report.tokenizer) {
    json::object tokenizer{{"kind", valid_utf8(t->kind)}, {"vocabulary", t->vocabulary}};
    if (!t->pre_tokenizer.empty()) tokenizer["pre_tokenizer"] = valid_utf8(t->pre_tokenizer);
    if (t->bos) tokenizer["bos"] = to_json(*t->bos);
    json::array& eos = tokenizer["eos"].emplace_array();
    for (const SpecialToken& token : t->eos) eos.push_back(to_json(token));
    out["tokenizer"] = std::move(tokenizer);
  } else if (!report.tokenizer_problem.empty()) {
    out["tokenizer_problem"] = valid_utf8(report.tokenizer_problem);
  }
  out["metadata"] = report.metadata_json;
  json::array& tensors = out["tensors"].emplace_array();
  for (const io::FileTensor& t : *report.tensors) {
    tensors.push_back({{"name", valid_utf8(t.name)},
                       {"type", t.type},
                       {"shape", json::array(t.shape.begin(), t.shape.end())},
                       {"bytes", t.bytes.size()}});
  }
  json::object& by_type = out["totals"].emplace_object();
  for (const auto& [type, total] : totals(*report.tensors)) {
    by_type[type] = {{"tensors", total.tensors}, {"bytes", total.bytes}};
  }
  fmt::print("{}\n", json::serialize(out));
}

std::string format_token(const SpecialToken& token) {
  return fmt::format("{} {}", token.id, escape_for_terminal(token.token));
}

/// Prints rows in columns; '>' in `alignment` aligns a column to the right.
void print_table(const std::vector<std::vector<std::string>>& rows, std::string_view alignment) {
  std::vector<size_t> widths(alignment.size());
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const bool last = i + 1 == row.size();
      if (alignment[i] == '>') {
        line += fmt::format("  {:>{}}", row[i], widths[i]);
      } else {
        line += fmt::format("  {:<{}}", row[i], last ? 0 : widths[i]);
      }
    }
    fmt::print("{}\n", line);
  }
}

void print_summary(const FileReport& report) {
  std::vector<std::vector<std::string>> rows;
  if (!report.architecture.empty())
    rows.push_back({"architecture", escape_for_terminal(report.architecture)});
  if (!report.name.empty()) rows.push_back({"name", escape_for_terminal(report.name)});
  if (report.context)
    rows.push_back({"maximum context", fmt::format("{} tokens", *report.context)});
  if (const auto& t = report.tokenizer) {
    rows.push_back({"tokenizer", escape_for_terminal(t->kind)});
    if (!t->pre_tokenizer.empty())
      rows.push_back({"pre-tokenizer", escape_for_terminal(t->pre_tokenizer)});
    rows.push_back({"vocabulary", fmt::format("{} tokens", t->vocabulary)});
    if (t->bos) rows.push_back({"begin (bos)", format_token(*t->bos)});
    for (size_t i = 0; i < t->eos.size(); ++i) {
      rows.push_back({i == 0 ? "end (eos)" : "", format_token(t->eos[i])});
    }
  } else if (!report.tokenizer_problem.empty()) {
    rows.push_back({"tokenizer", escape_for_terminal(report.tokenizer_problem)});
  }
  if (!report.chat_format.empty()) rows.push_back({"chat format", report.chat_format});
  if (const auto& tokens = report.chat_template_tokens)
    rows.push_back({"chat format", "unknown; its template uses " + *tokens});
  print_table(rows, "<<");
}

void print_report(const FileReport& report) {
  fmt::print("{} ({})\n", escape_for_terminal(report.path), report.format);
  print_summary(report);

  if (!report.metadata.empty()) {
    fmt::print("\nMetadata ({})\n", report.metadata.size());
    std::vector<std::vector<std::string>> rows;
    for (const Entry& e : report.metadata) {
      rows.push_back(e.type.empty() ? std::vector{e.key, e.text}
                                    : std::vector{e.key, e.type, e.text});
    }
    print_table(rows, "<<<");
  }

  fmt::print("\nTensors ({})\n", report.tensors->size());
  std::vector<std::vector<std::string>> rows;
  uint64_t bytes = 0;
  for (const io::FileTensor& t : *report.tensors) {
    rows.push_back({escape_for_terminal(t.name), t.type, io::format_shape(t.shape),
                    format_bytes(t.bytes.size())});
    bytes += t.bytes.size();
  }
  print_table(rows, "<<<>");

  fmt::print("\nTotals\n");
  rows.clear();
  const auto tensors_text = [](size_t n) {
    return fmt::format("{} tensor{}", n, n == 1 ? "" : "s");
  };
  for (const auto& [type, total] : totals(*report.tensors)) {
    rows.push_back({type, tensors_text(total.tensors), format_bytes(total.bytes)});
  }
  rows.push_back({"all", tensors_text(report.tensors->size()), format_bytes(bytes)});
  print_table(rows, "<>>");
}

int inspect(const fs::path& path, bool as_json) {
  const auto show = [&](FileReport report) {
    report.path = path.string();
    as_json ? print_json(report) : print_report(report);
    return kOk;
  };
  if (!fs::exists(path)) throw Error(path.string(), "file not found", "check the path");
  if (fs::is_directory(path)) return show(report_checkpoint(io::Checkpoint::open(path)));
  if (io::is_gguf(path)) return show(report_gguf(io::GgufFile::open(path)));
  if (path.extension() == ".safetensors")
    return show(report_safetensors(io::SafetensorsFile::open(path)));
  throw Error(path.string(), "is neither a GGUF nor a safetensors file",
              "give one of those, or a directory with config.json and model.safetensors");
}

}  // namespace

std::function<int()> inspect(CommandOptions& command) {
  struct Options {
    fs::path path;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  command
      .path("model", options->path,
            "GGUF file (any shard of a set), checkpoint directory or safetensors file")
      .required()
      .metavar("MODEL");
  command.flag("--json", options->json, "Print one JSON object, with arrays in full");
  return [options] { return inspect(options->path, options->json); };
}

}  // namespace mxgpt::cli
