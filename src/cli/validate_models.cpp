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

#include "base/error.h"
#include "base/escape.h"
#include "base/file_writer.h"
#include "base/progress.h"
#include "base/version.h"
#include "cli/command.h"
#include "cli/quantize_to_temp_file.h"
#include "cli/terminal.h"
#include "cli/validate.h"
#include "eval/model_comparison.h"
#include "io/model_hash.h"

namespace mxgpt::cli {

namespace {

namespace fs = std::filesystem;

struct Interrupted {};

/// A progress bar for `total` units (bytes if `unit` is empty). Ctrl-C throws Interrupted.
std::function<void(int64_t)> progress(const char* label, int64_t total, const char* unit) {
  const auto bar = std::make_shared<Progress>(label, total, unit);
  return [bar](int64_t done) {
    if (SignalGuard::interrupted()) throw Interrupted();
    bar->advance(done);
  };
}

/// A model under comparison.
struct OpenedModel {
  std::shared_ptr<const runtime::Model> model;
  std::string display_name;  ///< for the report
  fs::path path;             ///< empty for a recipe, whose file is unlinked
  uint64_t bytes;
};

uint64_t model_bytes(const fs::path& path) {
  uint64_t bytes = 0;
  for (const std::string& file : io::model_files(path))
    bytes += fs::file_size(io::model_folder(path) / file);
  return bytes;
}

/// Opens each model once.
class ModelCache {
 public:
  explicit ModelCache(const fs::path& source) : source_(source) {}

  /// Opens a file, a directory, or a recipe applied to the source.
  OpenedModel open(const fs::path& path) {
    if (const quant::Recipe* recipe = recipe_unless_path(path)) {
      if (source_.empty()) {
        throw Error(path.string(), "is a recipe", "choose the model to quantize with --source");
      }
      const TemporaryModel copy = quantize_to_temp_file(
          *open(source_).model, *recipe,
          [](uint64_t bytes) { return progress("Quantizing", static_cast<int64_t>(bytes), ""); });
      return {copy.model, fmt::format("{} of {}", recipe->name, source_.string()), {}, copy.bytes};
    }
    if (!fs::exists(path)) {
      throw Error(path.string(), "neither a model nor a recipe of that name was found",
                  "check the path");
    }
    for (const OpenedModel& known : open_) {
      if (fs::equivalent(known.path, path)) return known;
    }
    return open_.emplace_back(
        OpenedModel{runtime::Model::open(path), path.string(), path, model_bytes(path)});
  }

 private:
  const fs::path& source_;
  std::vector<OpenedModel> open_;
};

bool is_stored_reference(const fs::path& path) {
  return path.extension() == ".safetensors" && !fs::is_directory(path);
}

/// "default, f16 sums, Q8_0 cache".
std::string precision_name(const engine::ScoringOptions& options) {
  return fmt::format(
      "{}{}{}", options.precision == backend::Precision::exact ? "exact" : "default",
      options.accum_type == kernels::AccumType::f16 ? ", f16 sums" : "",
      options.kv_format ? fmt::format(", {} cache", quant::traits(*options.kv_format).name) : "");
}

/// "gpt-oss, 25.1 M parameters; MXFP4, BF16".
std::string model_summary(const model::ModelFile& model) {
  std::set<std::string_view> formats;
  for (const model::TensorRef& tensor : model.tensors()) {
    const model::Role role = tensor.spec->role;
    if (role != model::Role::vector && role != model::Role::router)
      formats.insert(quant::traits(model.stored_format(tensor)).name);
  }
  const auto count = static_cast<double>(eval::count_parameters(model));
  return fmt::format(
      "{}, {} parameters, {}", model.config().architecture,
      count < 1e9 ? fmt::format("{:.1f} M", count / 1e6) : fmt::format("{:.1f} B", count / 1e9),
      fmt::join(formats, " + "));
}

/// Command line of this process, for the report.
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

void check_vocabulary(const runtime::Model& model, int64_t expected) {
  const int64_t vocabulary = model.config().vocabulary;
  const std::string where = model.path().string();
  if (vocabulary != expected) {
    throw Error(
        where,
        fmt::format("has a vocabulary of {}, the other model one of {}", vocabulary, expected),
        "only models with the same tokens can be compared");
  }
  if (vocabulary < eval::kTopTokens) {
    throw Error(where, fmt::format("has a vocabulary of {}; at least {} is needed", vocabulary,
                                   eval::kTopTokens));
  }
}

/// Runs the comparison and fills the report.
class Validation {
 public:
  explicit Validation(const ValidateOptions& options) : options_(options), models_(options.source) {
    if (options.reference.empty() || options.candidate.empty()) {
      throw Error("validate", "needs two models", "set --reference and --candidate");
    }
    report_.title =
        fmt::format("{} vs. {}", file_name_of(options.candidate), file_name_of(options.reference));
    report_.command = command_line();
    report_.version = version();
    report_.date = fmt::format("{:%Y-%m-%d}", fmt::gmtime(std::time(nullptr)));
  }

  eval::Report run() {
    const auto start = std::chrono::steady_clock::now();
    candidate_ = models_.open(options_.candidate);
    check_vocabulary(*candidate_.model, vocabulary());
    if (is_stored_reference(options_.reference)) {
      run_stored();
    } else {
      run_models();
    }
    report_.results = eval::check_criteria(options_.criteria, report_.summary);
    report_.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return std::move(report_);
  }

 private:
  static std::string file_name_of(const fs::path& path) {
    return escape_for_terminal(fs::weakly_canonical(path).filename().string());
  }

  int64_t vocabulary() const { return candidate_.model->config().vocabulary; }

  eval::ModelUnderTest candidate() const {
    return {candidate_.model.get(),
            {.device = options_.device.device,
             .vram_budget = options_.device.vram_budget,
             .precision = options_.precision,
             .accum_type = options_.accumulate,
             .kv_format = options_.kv}};
  }

  bool wants_hashes() const { return !options_.json.empty() || !options_.html.empty(); }

  void add_subject(const char* label, const OpenedModel& opened, const std::string& precision) {
    report_.subjects.push_back(
        {.label = label,
         .path = opened.display_name,
         .sha256 = wants_hashes() && !opened.path.empty() ? io::model_sha256(opened.path) : "",
         .description = model_summary(*opened.model),
         .precision = precision,
         .bytes = opened.bytes});
  }

  void add_text(const fs::path& path, size_t documents, const std::vector<eval::Chunk>& chunks) {
    report_.text_path = path.string();
    if (wants_hashes()) report_.text_sha256 = io::model_sha256(path);
    report_.documents = static_cast<int64_t>(documents);
    report_.chunks = static_cast<int64_t>(chunks.size());
    report_.chunk_length = eval::max_chunk_length(chunks);
    report_.clusters = eval::cluster_chunks(chunks);
  }

  void run_stored() {
    if (!options_.source.empty()) {
      throw Error("--source", "cannot be combined with stored log-probabilities");
    }
    if (!options_.text.text.empty()) {
      throw Error("--text",
                  "cannot be combined with stored log-probabilities, which have their own tokens",
                  "remove it");
    }
    const eval::Documents ids =
        options_.text.is_set() ? read_ids(options_.text.ids) : eval::Documents{};
    const eval::StoredReference reference(options_.reference, vocabulary(), ids);
    const std::vector<eval::Chunk>& chunks = reference.chunks();
    const std::string origin = reference.source();
    report_.subjects.push_back(
        {.label = "reference",
         .path = options_.reference.string(),
         .sha256 = wants_hashes() ? io::model_sha256(options_.reference) : "",
         .description = fmt::format(
             "stored {}{}{}", reference.has_full_logits() ? "logits" : "top-8 log-probabilities",
             origin.empty() ? "" : " of ", origin),
         .bytes = fs::file_size(options_.reference)});
    add_subject("candidate", candidate_, precision_name(candidate().options));
    add_text(options_.reference, chunks.size(), chunks);
    const int64_t tokens = eval::count_scored_tokens(chunks) + report_.chunks;
    eval::compare_with_stored(reference, candidate(), report_,
                              progress("Comparing", tokens, "tokens"));
  }

  void run_models() {
    const OpenedModel reference = models_.open(options_.reference);
    const OpenedModel source =
        options_.source.empty() ? OpenedModel{} : models_.open(options_.source);
    int64_t context = INT64_MAX;
    for (const OpenedModel* opened :
         std::initializer_list<const OpenedModel*>{&reference, &candidate_, &source}) {
      if (!opened->model) continue;
      check_vocabulary(*opened->model, vocabulary());
      context = std::min(context, opened->model->config().context);
    }
    // A quantized temporary file has no tokenizer.
    const TokenizedText text =
        options_.text.read(reference.path.empty() ? options_.source : options_.reference);
    std::vector<eval::Chunk> chunks =
        eval::split_into_chunks(text.documents, std::min(options_.chunk, context), text.bos);
    if (options_.max_tokens) chunks = eval::sample_chunks(std::move(chunks), options_.max_tokens);
    if (chunks.empty()) {
      throw Error(options_.text.path().string(),
                  "has no document with at least two tokens; there is nothing to compare");
    }
    const engine::ScoringOptions reference_options{.precision = options_.reference_precision};
    const std::string reference_precision = precision_name(reference_options);
    add_subject("reference", reference, reference_precision);
    add_subject("candidate", candidate_, precision_name(candidate().options));
    if (source.model) add_subject("source", source, reference_precision);
    add_text(options_.text.path(), text.documents.size(), chunks);

    const eval::ModelUnderTest reference_model{reference.model.get(), reference_options},
        source_model{source.model.get(), reference_options};
    const int64_t models = source.model ? 3 : 2;
    const int64_t tokens = models * (eval::count_scored_tokens(chunks) + report_.chunks);
    eval::compare_models(reference_model, candidate(), source.model ? &source_model : nullptr,
                         chunks, report_, progress("Comparing", tokens, "tokens"));
    const runtime::Model& baseline = source.model ? *source.model : *reference.model;
    const int64_t weights = (models - 1) * eval::count_parameters(baseline);
    const auto on_weights = progress("Weights", weights, "weights");
    for (eval::LayerComparison& insides : report_.layer_comparisons) {
      const runtime::Model& other_model =
          insides.label == "candidate" ? *candidate_.model : *reference.model;
      insides.weights = eval::weight_errors(baseline, other_model, on_weights);
    }
  }

  const ValidateOptions& options_;
  ModelCache models_;
  OpenedModel candidate_;
  eval::Report report_;
};

void write_file(const fs::path& path, const std::string& content) {
  FileWriter out(path);
  out.write(content);
  out.commit();
}

}  // namespace

int validate_models(const ValidateOptions& options) {
  const SignalGuard signal_guard;
  try {
    const eval::Report report = Validation(options).run();
    fmt::print("{}", eval::to_text(report));
    if (!options.json.empty())
      write_file(options.json, json::serialize(eval::to_json(report)) + "\n");
    if (!options.html.empty()) write_file(options.html, eval::to_html(report));
    switch (eval::overall_outcome(report.results)) {
      case eval::Outcome::pass:
        return kOk;
      case eval::Outcome::fail:
        return kFailed;
      case eval::Outcome::inconclusive:
        return kInconclusive;
    }
    return kFailed;
  } catch (const Interrupted&) {
    fmt::print(stderr, "mxgpt: interrupted\n");
    return 128 + SIGINT;
  }
}

}  // namespace mxgpt::cli
