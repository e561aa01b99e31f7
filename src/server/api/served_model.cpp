#include "server/api/served_model.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <charconv>
#include <ctime>
#include <map>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "io/model_hash.h"
#include "runtime/device.h"
#include "server/api/api_error.h"
#include "text/tokenizer/byte_level.h"
#include "text/unicode.h"

namespace mxgpt::server {

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

ModelInfo model_info(const runtime::Model& model, std::string_view device) {
  return {.weight_format = dominant_weight_format(model), .device = runtime::device(device).info()};
}

}  // namespace

ServedModel::ServedModel(std::unique_ptr<const runtime::Model> model,
                         const ServedModelOptions& options)
    : name_(options.name),
      model_(std::move(model)),
      device_(runtime::device(options.engine.device).name()),
      sha256_(options.sha256) {
  for (char& digit : sha256_) digit = static_cast<char>(std::tolower(digit));
  if (name_.empty()) {
    const auto path = std::filesystem::weakly_canonical(model_->path());
    name_ = (model_->gguf() ? path.stem() : path.filename()).string();
  }
  const auto tokenizer = text::Tokenizer::load(model_->path());
  if (tokenizer->vocab_size() > model_->config().vocabulary) {
    throw Error(model_->path().string(),
                fmt::format("the tokenizer has {} tokens, the embedding only {}",
                            tokenizer->vocab_size(), model_->config().vocabulary));
  }
  chat_ = std::make_unique<chat::ChatModel>(chat::ChatModel::Options{
      .name = model_->path().string(),
      .tokenizer = tokenizer,
      .chat_template = model_->gguf() ? text::ChatTemplate::from_gguf(model_->gguf()->metadata())
                                      : text::ChatTemplate::from_checkpoint(model_->path()),
      .stop_tokens = model_->stop_tokens(),
      .vocabulary = model_->config().vocabulary,
      .date = chat::today()});
  chat_->grammars();  // now, not at the first request that needs it
  info_ = model_info(*model_, device_);
  engine_ = std::make_unique<engine::Engine>(*model_, options.engine);
  if (!sha256_.empty()) return;
  hash_thread_ = std::jthread([this](const std::stop_token& stop) {
    const sched_param lowest{};
    sched_setscheduler(0, SCHED_IDLE, &lowest);  // this thread: generation goes first
    try {
      std::string hash = io::model_sha256(model_->path(), stop);
      const std::lock_guard lock(mutex_);
      sha256_ = std::move(hash);
    } catch (const Error& e) {
      log::warn("cannot compute the SHA-256 of the model: {}", e.what());
    }
  });
}

std::string ServedModel::sha256() const {
  const std::lock_guard lock(mutex_);
  return sha256_;
}

chat::PreparedChat ServedModel::prepare_chat(const chat::ChatRequest& request) const {
  if (chat_->chat_format_fault()) {
    throw ApiError(400, "this model has no chat format; use /v1/completions", "model",
                   "unsupported_parameter");
  }
  return chat::prepare_chat(*chat_, request, engine_->context());
}

std::string ServedModel::token_bytes(text::TokenId token) const {
  const std::string_view spelling = tokenizer()->id_to_token(token);
  if (chat_->byte_level() && !tokenizer()->is_special(token)) {
    std::string bytes;
    for (size_t i = 0; i < spelling.size();) {
      const auto byte = tokenizer::ByteAlphabet::get().decode(text::unicode::next(spelling, i));
      if (!byte) return std::string(spelling);  // an added token, spelled literally
      bytes += static_cast<char>(*byte);
    }
    return bytes;
  }
  // SentencePiece byte fallback: <0xE2>.
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
