// `mxgpt validate --reference A --candidate B`.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <ctime>
#include <fstream>
#include <iterator>
#include <set>

#include "apps/command.h"
#include "apps/quantized_copy.h"
#include "apps/terminal.h"
#include "apps/validate.h"
#include "base/error.h"
#include "base/file_writer.h"
#include "base/printable.h"
#include "base/progress.h"
#include "base/version.h"
#include "io/provenance.h"
#include "numerics/comparison.h"

namespace mxgpt::apps {

namespace {

namespace fs = std::filesystem;

struct Interrupted {};

/// A bar for `total` of a unit (bytes, if it is empty), which Ctrl-C ends.
std::function<void(int64_t)> progress(const char* label, int64_t total, const char* unit) {
  const auto bar = std::make_shared<Progress>(label, total, unit);
  return [bar](int64_t done) {
    if (CtrlC::pressed()) throw Interrupted();
    bar->advance(done);
  };
}

/// A model of the comparison.
struct Opened {
  std::shared_ptr<const Model> model;
  std::string name;  ///< for people
  fs::path path;     ///< empty for a recipe, whose file is gone
  uint64_t bytes;
};

uint64_t size_of(const fs::path& path) {
  uint64_t bytes = 0;
  for (const std::string& file : model_files(path))
    bytes += fs::file_size(model_folder(path) / file);
  return bytes;
}

/// Opens the models; one that is named twice is opened once.
class Models {
 public:
  explicit Models(const fs::path& source) : source_(source) {}

  /// A file, a directory, or a recipe, which is applied to the source.
  Opened open(const fs::path& path) {
    if (const Recipe* recipe = recipe_of(path)) {
      if (source_.empty()) {
        throw Error(path.string(), "is a recipe", "name the model to apply it to with --source");
      }
      const QuantizedCopy copy = quantized_copy(*open(source_).model, *recipe, [](uint64_t bytes) {
        return progress("Quantizing", static_cast<int64_t>(bytes), "");
      });
      return {copy.model, fmt::format("{} of {}", recipe->name, source_.string()), {}, copy.bytes};
    }
    if (!fs::exists(path)) {
      throw Error(path.string(), "there is no such model, and no recipe of that name",
                  "check the path");
    }
    for (const Opened& known : open_) {
      if (fs::equivalent(known.path, path)) return known;
    }
    return open_.emplace_back(Opened{Model::open(path), path.string(), path, size_of(path)});
  }

 private:
  const fs::path& source_;
  std::vector<Opened> open_;
};

bool is_stored(const fs::path& path) {
  return path.extension() == ".safetensors" && !fs::is_directory(path);
}

/// "default, f16 sums, Q8_0 cache".
std::string precision_name(const SessionOptions& options) {
  return fmt::format("{}{}{}", options.precision == Precision::exact ? "exact" : "default",
                     options.accumulate == Accumulate::f16 ? ", f16 sums" : "",
                     options.kv ? fmt::format(", {} cache", traits(*options.kv).name) : "");
}

/// "gpt-oss, 25.1 M parameters; MXFP4, BF16".
std::string about(const Model& model) {
  std::set<std::string_view> formats;
  Weights weights = model.weights();
  for (const TensorSpec& spec : model.architecture().tensors) {
    for (int64_t layer = 0; layer < spec.layers(model.config()); ++layer) {
      const Tensor tensor = spec.in(weights, layer);
      if (tensor && spec.role != Role::vector && spec.role != Role::router)
        formats.insert(traits(tensor.format).name);
    }
  }
  const auto count = static_cast<double>(parameters(model));
  return fmt::format(
      "{}, {} parameters, {}", model.config().architecture,
      count < 1e9 ? fmt::format("{:.1f} M", count / 1e6) : fmt::format("{:.1f} B", count / 1e9),
      fmt::join(formats, " + "));
}

/// The command line that is running, for the record.
std::string command_line() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  const std::string raw{std::istreambuf_iterator<char>(file), {}};
  std::string line = "mxgpt", argument;
  bool first = true;
  for (const char c : raw) {
    if (c != '\0') {
      argument += c;
      continue;
    }
    const bool plain =
        !argument.empty() && argument.find_first_of(" \t\n\"'\\$`*?&|;<>()#!") == argument.npos;
    if (!first) line += plain ? " " + argument : fmt::format(" '{}'", argument);
    first = false;
    argument.clear();
  }
  return line;
}

void check_vocabulary(const Model& model, int64_t expected) {
  const int64_t vocabulary = model.config().vocabulary;
  const std::string where = model.path().string();
  if (vocabulary != expected) {
    throw Error(
        where,
        fmt::format("has a vocabulary of {}, the other model one of {}", vocabulary, expected),
        "only models with the same tokens can be compared");
  }
  if (vocabulary < kTop) {
    throw Error(where, fmt::format("has a vocabulary of {}; comparing needs {} at least",
                                   vocabulary, kTop));
  }
}

/// Feeds what the options name into the report.
class Validation {
 public:
  explicit Validation(const ValidateOptions& options) : options_(options), models_(options.source) {
    if (options.reference.empty() || options.candidate.empty()) {
      throw Error("validate", "needs two models", "name them with --reference and --candidate");
    }
    report_.title =
        fmt::format("{} against {}", name_of(options.candidate), name_of(options.reference));
    report_.command = command_line();
    report_.version = version();
    report_.date = fmt::format("{:%Y-%m-%d}", fmt::gmtime(std::time(nullptr)));
  }

  Report run() {
    const auto start = std::chrono::steady_clock::now();
    candidate_ = models_.open(options_.candidate);
    check_vocabulary(*candidate_.model, vocabulary());
    if (is_stored(options_.reference)) {
      run_stored();
    } else {
      run_models();
    }
    report_.verdicts = judge(options_.gates, report_.summary);
    report_.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return std::move(report_);
  }

 private:
  static std::string name_of(const fs::path& path) {
    return printable(fs::weakly_canonical(path).filename().string());
  }

  int64_t vocabulary() const { return candidate_.model->config().vocabulary; }

  Contender candidate() const {
    return {candidate_.model.get(),
            {.device = options_.device.device,
             .vram_budget = options_.device.vram_budget,
             .precision = options_.precision,
             .accumulate = options_.accumulate,
             .kv = options_.kv}};
  }

  bool hashes() const { return !options_.json.empty() || !options_.html.empty(); }

  void describe(const char* label, const Opened& opened, const std::string& precision) {
    report_.subjects.push_back(
        {.label = label,
         .path = opened.name,
         .sha256 = hashes() && !opened.path.empty() ? model_sha256(opened.path) : "",
         .about = about(*opened.model),
         .precision = precision,
         .bytes = opened.bytes});
  }

  void describe_text(const fs::path& path, size_t documents, const std::vector<Piece>& pieces) {
    report_.text_path = path.string();
    if (hashes()) report_.text_sha256 = model_sha256(path);
    report_.documents = static_cast<int64_t>(documents);
    report_.pieces = static_cast<int64_t>(pieces.size());
    report_.chunk = longest(pieces);
    report_.clusters = clusters_of(pieces);
  }

  void run_stored() {
    if (!options_.source.empty()) {
      throw Error("--source", "needs a model as the reference, not stored log-probabilities");
    }
    if (!options_.text.text.empty()) {
      throw Error("--text",
                  "is not used with stored log-probabilities, which have their own tokens",
                  "leave it out");
    }
    const Documents ids = options_.text.given() ? read_ids(options_.text.ids) : Documents{};
    const StoredReference reference(options_.reference, vocabulary(), ids);
    const std::vector<Piece>& pieces = reference.pieces();
    const std::string origin = reference.origin();
    report_.subjects.push_back(
        {.label = "reference",
         .path = options_.reference.string(),
         .sha256 = hashes() ? model_sha256(options_.reference) : "",
         .about =
             fmt::format("stored {}{}{}", reference.full() ? "logits" : "top-8 log-probabilities",
                         origin.empty() ? "" : " of ", origin),
         .bytes = fs::file_size(options_.reference)});
    describe("candidate", candidate_, precision_name(candidate().options));
    describe_text(options_.reference, pieces.size(), pieces);
    const int64_t tokens = scored_tokens(pieces) + report_.pieces;
    compare_with_stored(reference, candidate(), report_, progress("Comparing", tokens, "tokens"));
  }

  void run_models() {
    const Opened reference = models_.open(options_.reference);
    const Opened source = options_.source.empty() ? Opened{} : models_.open(options_.source);
    int64_t context = INT64_MAX;
    for (const Opened* opened :
         std::initializer_list<const Opened*>{&reference, &candidate_, &source}) {
      if (!opened->model) continue;
      check_vocabulary(*opened->model, vocabulary());
      context = std::min(context, opened->model->config().context);
    }
    // A recipe's file has no tokenizer.
    const Text text =
        options_.text.read(reference.path.empty() ? options_.source : options_.reference);
    std::vector<Piece> pieces =
        cut_into_pieces(text.documents, std::min(options_.chunk, context), text.bos);
    if (options_.max_tokens) pieces = spread(std::move(pieces), options_.max_tokens);
    if (pieces.empty()) {
      throw Error(options_.text.path().string(),
                  "has no document of two tokens; there is nothing to compare");
    }
    const SessionOptions how{.precision = options_.reference_precision};
    const std::string other = precision_name(how);
    describe("reference", reference, other);
    describe("candidate", candidate_, precision_name(candidate().options));
    if (source.model) describe("source", source, other);
    describe_text(options_.text.path(), text.documents.size(), pieces);

    const Contender a{reference.model.get(), how}, s{source.model.get(), how};
    const int64_t models = source.model ? 3 : 2;
    const int64_t tokens = models * (scored_tokens(pieces) + report_.pieces);
    compare_models(a, candidate(), source.model ? &s : nullptr, pieces, report_,
                   progress("Comparing", tokens, "tokens"));
    const Model& baseline = source.model ? *source.model : *reference.model;
    const int64_t weights = (models - 1) * parameters(baseline);
    const auto on_weights = progress("Weights", weights, "weights");
    for (Insides& insides : report_.insides) {
      const Model& other_model =
          insides.label == "candidate" ? *candidate_.model : *reference.model;
      insides.weights = weight_errors(baseline, other_model, on_weights);
    }
  }

  const ValidateOptions& options_;
  Models models_;
  Opened candidate_;
  Report report_;
};

void write_file(const fs::path& path, const std::string& content) {
  FileWriter out(path);
  out.write(content);
  out.commit();
}

}  // namespace

int validate_models(const ValidateOptions& options) {
  const CtrlC ctrl_c;
  try {
    const Report report = Validation(options).run();
    fmt::print("{}", to_text(report));
    if (!options.json.empty()) write_file(options.json, json::serialize(to_json(report)) + "\n");
    if (!options.html.empty()) write_file(options.html, to_html(report));
    switch (overall(report.verdicts)) {
      case Outcome::holds:
        return kOk;
      case Outcome::fails:
        return kFailed;
      case Outcome::undecided:
        return kUndecided;
    }
    return kFailed;
  } catch (const Interrupted&) {
    fmt::print(stderr, "mxgpt: interrupted\n");
    return 128 + SIGINT;
  }
}

}  // namespace mxgpt::apps
