#include "cli/chat_session.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>

#include "base/error.h"
#include "chat/request_error.h"
#include "chat/response_format.h"
#include "cli/stream_printer.h"
#include "cli/terminal.h"
#include "text/chat/known_chat_templates.h"

namespace mxgpt::cli {

namespace {

chat::ChatModel::Options model_options(const model::ModelFile& model,
                                       std::shared_ptr<const text::Tokenizer> tokenizer,
                                       const std::string& format) {
  return {.name = model.path().string(),
          .tokenizer = std::move(tokenizer),
          .chat_template = model.gguf() ? text::ChatTemplate::from_gguf(model.gguf()->metadata())
                                        : text::ChatTemplate::from_checkpoint(model.path()),
          .stop_tokens = model.stop_tokens(),
          .vocabulary = model.config().vocabulary,
          .format = format,
          .date = chat::today()};
}

const char* flag_of(const std::string& field) {
  if (field == "reasoning_effort") return "--reasoning-effort";
  if (field == "reasoning") return "--no-thinking";
  return field == "tools" ? "--tools" : nullptr;
}

chat::Conversation make_conversation(const chat::ChatModel& model, const ChatOptions& options) {
  if (const auto fault = model.chat_format_fault()) {
    throw Error(model.name(), *fault,
                fmt::format("name the format it was trained with by --chat-format ({}), or have "
                            "text completed with --raw",
                            fmt::join(text::chat_format_names(), ", ")));
  }
  chat::ChatRequest settings{.effort = options.effort,
                             .reasoning = !options.no_thinking,
                             .stops = options.stops,
                             .sampling = options.generate.sampling};
  settings.tools.declare(options.tools);
  if (options.generate.max_tokens > 0) settings.max_tokens = options.generate.max_tokens;
  if (options.schema) {
    settings.format = chat::json_schema_format(
        model.grammars(), {.name = "answer", .schema = &*options.schema}, options.schema_path);
  }
  try {
    return {model, std::move(settings), options.system};
  } catch (const chat::RequestError& error) {
    const char* flag = flag_of(error.field);
    if (!flag) throw;
    throw Error(flag, error.problem_and_fix(), "leave it out");
  }
}

}  // namespace

ChatSession::ChatSession(const model::ModelFile& model,
                         std::shared_ptr<const text::Tokenizer> tokenizer,
                         const ChatOptions& options)
    : model_(model_options(model, std::move(tokenizer), options.format)),
      conversation_(make_conversation(model_, options)),
      show_reasoning_(options.show_reasoning),
      cancelled_(options.generate.cancelled) {}

engine::GenerationResult ChatSession::ask(engine::Engine& engine, std::string_view text) {
  StreamPrinter printer(show_reasoning_);
  return conversation_.ask(
      engine, std::string(text),
      {.on_delta =
           [&](const chat::OutputDelta& delta) {
             if (delta.kind == chat::OutputDelta::Kind::reasoning) printer.reasoning(delta.text);
             if (delta.kind == chat::OutputDelta::Kind::content) printer.content(delta.text);
           },
       .on_run_end = [&] { printer.finish(); },
       .call_tool = [](const chat::ChatItem& call) -> std::optional<std::string> {
         fmt::print("{}calls functions.{} with {}{}\n", dim_on(), call.name, call.text, dim_off());
         std::string result;
         if (!read_line("result> ", result) || SignalGuard::interrupted()) return std::nullopt;
         return result;
       },
       .cancelled = cancelled_});
}

}  // namespace mxgpt::cli
