#include "server/served.h"

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
#include "io/provenance.h"
#include "model/cuda_weights.h"
#include "model/plan.h"
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

std::string quant_kind(const Model& model) {
  std::map<Format, size_t> bytes;
  for (const TensorSpec& spec : model.architecture().tensors) {
    for (int64_t layer = 0; layer < spec.layers(model.config()); ++layer) {
      if (!model.has(spec, layer)) continue;
      const Model::Held held = model.held(spec, layer);
      bytes[held.format] += held.bytes;
    }
  }
  const auto most = std::max_element(
      bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  std::string name(traits(most->first).name);
  for (char& c : name) c = static_cast<char>(std::tolower(c));
  return name;
}

ModelFacts facts_of(const Model& model, const EngineOptions& engine) {
  ModelFacts facts{.quant_kind = quant_kind(model)};
  const RunnerOptions runner = Engine::runner_options(EngineShape::of(model.config()), engine);
  if (engine.device == Device::cpu) {
    const MemoryPlan plan = plan_memory(model, runner);
    facts.planned = {.weights = static_cast<int64_t>(plan.mapped_weights() + plan.own_weights()),
                     .kv = static_cast<int64_t>(plan.kv_bytes()),
                     .workspace = static_cast<int64_t>(plan.workspace),
                     .program = static_cast<int64_t>(plan.program)};
  } else {
    const cuda::DeviceInfo gpu = cuda::device_info();
    facts.gpu = gpu.name;
    facts.capability = fmt::format("{}.{}", gpu.major, gpu.minor);
    facts.cuda = fmt::format("{}.{}", gpu.runtime / 1000, gpu.runtime % 1000 / 10);
  }
  return facts;
}

}  // namespace

Served::Served(std::unique_ptr<const Model> model, const ServedOptions& options)
    : name_(options.name),
      model_(std::move(model)),
      tokenizer_(Tokenizer::load(model_->path())),
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
  const ChatTemplate chat_template = model_->gguf()
                                         ? ChatTemplate::of_gguf(model_->gguf()->metadata())
                                         : ChatTemplate::of_checkpoint(model_->path());
  const auto format = chat_format_of(chat_template, [&](std::string_view token) {
    return tokenizer_->token_to_id(token).has_value();
  });
  if (format == kHarmonyFormat) {
    harmony_ = std::make_shared<harmony::HarmonyEncoding>(tokenizer_);
    for (const TokenId token : harmony_->stop_tokens()) stop_tokens_.push_back(token);
  } else if (format) {
    turns_ = turn_format(*format, chat_template, today());
    stop_tokens_.push_back(turns_->check(*tokenizer_));
  }
  grammars_ = std::make_unique<Grammars>(tokenizer_, byte_level_, model_->config().vocabulary);
  facts_ = facts_of(*model_, options.engine);
  engine_ = std::make_unique<Engine>(*model_, options.engine);
  if (!sha256_.empty()) return;
  hashing_ = std::jthread([this](const std::stop_token& stop) {
    const sched_param lowest{};
    sched_setscheduler(0, SCHED_IDLE, &lowest);  // this thread: answers go first
    try {
      std::string hash = model_sha256(model_->path(), stop);
      const std::lock_guard lock(mutex_);
      sha256_ = std::move(hash);
    } catch (const Error& e) {
      spdlog::warn("the hash of the model stays unknown: {}", e.what());
    }
  });
}

std::string Served::sha256() const {
  const std::lock_guard lock(mutex_);
  return sha256_;
}

std::string Served::bytes_of(TokenId token) const {
  const std::string_view spelling = tokenizer_->id_to_token(token);
  if (byte_level_ && !tokenizer_->is_special(token)) {
    std::string bytes;
    for (size_t i = 0; i < spelling.size();) {
      const auto byte = tokenizer::ByteAlphabet::get().byte_of(unicode::next(spelling, i));
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
