#include "server/api/served_model.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sched.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>
#include <ctime>
#include <map>
#include <utility>

#include "base/error.h"
#include "io/model_hash.h"
#include "runtime/cuda_weights.h"
#include "runtime/host_memory_plan.h"
#include "text/tokenizer/byte_level.h"
#include "text/unicode.h"

namespace mxgpt::server {

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  return fmt::format("{:%Y-%m-%d}", local);
}

namespace {

std::string dominant_weight_format(const runtime::Model& model) {
  std::map<quant::Format, size_t> bytes;
  for (const model::TensorRef& tensor : model.tensors()) {
    const model::HostTensorInfo info = model.host_tensor_info(tensor);
    bytes[info.format] += info.bytes;
  }
  const auto largest = std::max_element(
      bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  std::string name(quant::traits(largest->first).name);
  for (char& c : name) c = static_cast<char>(std::tolower(c));
  return name;
}

ModelInfo model_info(const runtime::Model& model, const engine::EngineOptions& engine) {
  ModelInfo info{.weight_format = dominant_weight_format(model)};
  const runtime::RunnerOptions runner =
      engine::Engine::runner_options(engine::EngineShape::from_config(model.config()), engine);
  if (engine.device == backend::Device::cpu) {
    const runtime::HostMemoryPlan plan = runtime::plan_host_memory(model, runner);
    info.planned_memory = {
        .weights = static_cast<int64_t>(plan.mapped_weights() + plan.private_weights()),
        .kv_cache = static_cast<int64_t>(plan.kv_bytes()),
        .workspace = static_cast<int64_t>(plan.workspace),
        .runtime = static_cast<int64_t>(plan.program)};
  } else {
    const cuda::DeviceInfo gpu = cuda::device_info();
    info.gpu_name = gpu.name;
    info.compute_capability = fmt::format("{}.{}", gpu.major, gpu.minor);
    info.cuda_version =
        fmt::format("{}.{}", gpu.runtime_version / 1000, gpu.runtime_version % 1000 / 10);
  }
  return info;
}

}  // namespace

ServedModel::ServedModel(std::unique_ptr<const runtime::Model> model,
                         const ServedModelOptions& options)
    : name_(options.name),
      model_(std::move(model)),
      tokenizer_(text::Tokenizer::load(model_->path())),
      stop_tokens_(model_->stop_tokens()),
      device_(options.engine.device),
      sha256_(options.sha256) {
  for (char& digit : sha256_) digit = static_cast<char>(std::tolower(digit));
  if (name_.empty()) {
    const auto path = std::filesystem::weakly_canonical(model_->path());
    name_ = (model_->gguf() ? path.stem() : path.filename()).string();
  }
  if (tokenizer_->vocab_size() > model_->config().vocabulary) {
    throw Error(model_->path().string(),
                fmt::format("its tokenizer has {} tokens but its embedding only {}",
                            tokenizer_->vocab_size(), model_->config().vocabulary));
  }
  // "Ġ" spells a blank in byte-level vocabularies, and nothing in others.
  byte_level_ = tokenizer_->token_to_id("Ġ").has_value();
  const text::ChatTemplate template_source =
      model_->gguf() ? text::ChatTemplate::from_gguf(model_->gguf()->metadata())
                     : text::ChatTemplate::from_checkpoint(model_->path());
  const auto format = text::detect_chat_format(template_source, [&](std::string_view token) {
    return tokenizer_->token_to_id(token).has_value();
  });
  if (format == text::kHarmonyFormat) {
    harmony_ = std::make_shared<harmony::HarmonyEncoding>(tokenizer_);
    for (const text::TokenId token : harmony_->stop_tokens()) stop_tokens_.push_back(token);
  } else if (format) {
    chat_template_ = text::chat_template_spec(*format, template_source, today());
    stop_tokens_.push_back(chat_template_->end_of_turn_id(*tokenizer_));
  }
  grammar_compiler_ =
      std::make_unique<chat::GrammarCompiler>(tokenizer_, byte_level_, model_->config().vocabulary);
  info_ = model_info(*model_, options.engine);
  engine_ = std::make_unique<engine::Engine>(*model_, options.engine);
  if (!sha256_.empty()) return;
  hash_thread_ = std::jthread([this](const std::stop_token& stop) {
    const sched_param lowest{};
    sched_setscheduler(0, SCHED_IDLE, &lowest);  // this thread: answers go first
    try {
      std::string hash = io::model_sha256(model_->path(), stop);
      const std::lock_guard lock(mutex_);
      sha256_ = std::move(hash);
    } catch (const Error& e) {
      spdlog::warn("the hash of the model stays unknown: {}", e.what());
    }
  });
}

std::string ServedModel::sha256() const {
  const std::lock_guard lock(mutex_);
  return sha256_;
}

std::string ServedModel::token_bytes(text::TokenId token) const {
  const std::string_view spelling = tokenizer_->id_to_token(token);
  if (byte_level_ && !tokenizer_->is_special(token)) {
    std::string bytes;
    for (size_t i = 0; i < spelling.size();) {
      const auto byte = tokenizer::ByteAlphabet::get().decode(text::unicode::next(spelling, i));
      if (!byte) return std::string(spelling);  // an added token, spelled as it is
      bytes += static_cast<char>(*byte);
    }
    return bytes;
  }
  // <0xE2> of SentencePiece's byte fallback.
  unsigned byte = 0;
  if (spelling.size() == 6 && spelling.starts_with("<0x") && spelling.ends_with('>') &&
      std::from_chars(spelling.data() + 3, spelling.data() + 5, byte, 16).ec == std::errc())
    return std::string(1, static_cast<char>(byte));
  std::string bytes(spelling);
  constexpr std::string_view kBlank = "\u2581";
  for (size_t at; (at = bytes.find(kBlank)) != bytes.npos;)
    bytes.replace(at, kBlank.size(), 1, ' ');
  return bytes;
}

}  // namespace mxgpt::server
