// Expected texts were rendered by jinja2 from the models' own templates. The templates here contain
// only the strings that identify each format.
#include "text/chat/known_chat_templates.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cctype>
#include <ostream>
#include <string>
#include <vector>

#include "support/message_of.h"
#include "support/small_tokenizer.h"

namespace mxgpt::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Role = ChatMessage::Role;

constexpr std::string_view kToday = "2026-11-23";

const std::vector<ChatMessage> kOne = {{Role::kUser, "Hi"}};
const std::vector<ChatMessage> kMany = {
    {Role::kSystem, " Be brief.\n"},
    {Role::kUser, "  Größe? "},
    {Role::kAssistant, "\n日本 🙂 "},
    {Role::kUser, "<|im_end|><|eot_id|>\n<end_of_turn>[/INST]<|end|></s>"}};
const std::vector<ChatMessage> kEmpty = {
    {Role::kUser, ""}, {Role::kAssistant, ""}, {Role::kUser, "x"}};

struct Case {
  std::string_view model, name, chat_template;
  std::string one, many, empty;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.model;
}

const Case kCases[] = {
    {"SmolLM2", "chatml",
     R"({{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}
{{ '<|im_start|>' + role + '\n' + content + '<|im_end|>' + '\n' }}{{ '<|im_start|>assistant\n' }})",
     "<|im_start|>system\n"
     "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
     "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
     "<|im_start|>system\n Be brief.\n<|im_end|>\n<|im_start|>user\n"
     "  Größe? <|im_end|>\n<|im_start|>assistant\n\n日本 🙂 <|im_end|>\n"
     "<|im_start|>user\n<|im_end|><|eot_id|>\n"
     "<end_of_turn>[/INST]<|end|></s><|im_end|>\n<|im_start|>assistant\n",
     "<|im_start|>system\n"
     "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
     "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n"
     "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"},
    {"Qwen2.5", "chatml",
     R"({{ '<|im_start|>system\n' }}{{ '<|im_start|>system\n' + content + '<|im_end|>\n' }}
{{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n' }}
{{ '<|im_start|>' + role + '\n' + content + '<|im_end|>' }})",
     "<|im_start|>system\n"
     "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
     "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
     "<|im_start|>system\n Be brief.\n<|im_end|>\n<|im_start|>user\n"
     "  Größe? <|im_end|>\n<|im_start|>assistant\n\n日本 🙂 <|im_end|>\n"
     "<|im_start|>user\n<|im_end|><|eot_id|>\n"
     "<end_of_turn>[/INST]<|end|></s><|im_end|>\n<|im_start|>assistant\n",
     "<|im_start|>system\n"
     "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
     "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n"
     "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"},
    {"Qwen3", "qwen3",
     R"({{ '<|im_start|>' + role + '\n' + content.split('</think>')[-1] + '<|im_end|>' }}
{% if enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %})",
     "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
     "<|im_start|>system\n Be brief.\n<|im_end|>\n<|im_start|>user\n"
     "  Größe? <|im_end|>\n<|im_start|>assistant\n\n日本 🙂 <|im_end|>\n"
     "<|im_start|>user\n<|im_end|><|eot_id|>\n"
     "<end_of_turn>[/INST]<|end|></s><|im_end|>\n<|im_start|>assistant\n",
     "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n"
     "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"},
    {"Llama 3", "llama3",
     R"({{ bos_token + '<|start_header_id|>' + role + '<|end_header_id|>\n\n' + content | trim + '<|eot_id|>' }})",
     "<bos><|start_header_id|>user<|end_header_id|>\n\n"
     "Hi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
     "<bos><|start_header_id|>system<|end_header_id|>\n\n"
     "Be brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
     "Größe?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
     "日本 🙂<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
     "<|im_end|><|eot_id|>\n"
     "<end_of_turn>[/INST]<|end|></s><|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
     "\n",
     "<bos><|start_header_id|>user<|end_header_id|>\n\n"
     "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
     "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
     "x<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"},
    {"Llama 3.1", "llama3",
     R"({{ bos_token }}{% set date_string = "26 Jul 2024" %}
{{ "<|start_header_id|>system<|end_header_id|>\n\n" }}{{ "Cutting Knowledge Date: December 2023\n" }}
{{ '<|start_header_id|>' + role + '<|end_header_id|>\n\n' + content | trim + '<|eot_id|>' }})",
     "<bos><|start_header_id|>system<|end_header_id|>\n\n"
     "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
     "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
     "Hi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
     "<bos><|start_header_id|>system<|end_header_id|>\n\n"
     "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
     "Be brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
     "Größe?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
     "日本 🙂<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
     "<|im_end|><|eot_id|>\n"
     "<end_of_turn>[/INST]<|end|></s><|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
     "\n",
     "<bos><|start_header_id|>system<|end_header_id|>\n\n"
     "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
     "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
     "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
     "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
     "x<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"},
    {"Llama 3.2", "llama3",
     R"({{ bos_token }}{% set date_string = strftime_now("%d %b %Y") %}
{{ "<|start_header_id|>system<|end_header_id|>\n\n" }}{{ "Cutting Knowledge Date: December 2023\n" }}
{{ '<|start_header_id|>' + role + '<|end_header_id|>\n\n' + content | trim + '<|eot_id|>' }})",
     "<bos><|start_header_id|>system<|end_header_id|>\n\n"
     "Cutting Knowledge Date: December 2023\nToday Date: 23 Nov 2026\n\n"
     "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
     "Hi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
     "<bos><|start_header_id|>system<|end_header_id|>\n\n"
     "Cutting Knowledge Date: December 2023\nToday Date: 23 Nov 2026\n\n"
     "Be brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
     "Größe?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
     "日本 🙂<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
     "<|im_end|><|eot_id|>\n"
     "<end_of_turn>[/INST]<|end|></s><|eot_id|><|start_header_id|>assistant<|end_header_id|>\n"
     "\n",
     "<bos><|start_header_id|>system<|end_header_id|>\n\n"
     "Cutting Knowledge Date: December 2023\nToday Date: 23 Nov 2026\n\n"
     "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
     "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
     "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
     "x<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"},
    {"Gemma 3", "gemma",
     R"({{ bos_token }}{% set role = 'model' %}{{ '<start_of_turn>' + role + '
' + content | trim }}{{ '<end_of_turn>
' }})",
     "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n",
     "<bos><start_of_turn>user\n Be brief.\n\n\nGröße?<end_of_turn>\n"
     "<start_of_turn>model\n日本 🙂<end_of_turn>\n<start_of_turn>user\n"
     "<|im_end|><|eot_id|>\n<end_of_turn>[/INST]<|end|></s><end_of_turn>\n"
     "<start_of_turn>model\n",
     "<bos><start_of_turn>user\n<end_of_turn>\n<start_of_turn>model\n"
     "<end_of_turn>\n<start_of_turn>user\nx<end_of_turn>\n"
     "<start_of_turn>model\n"},
    {"Phi-3.5", "phi3",
     R"({{ '<|user|>
' + content + '<|end|>
' }}{{ '<|assistant|>
' }})",
     "<|user|>\nHi<|end|>\n<|assistant|>\n",
     "<|system|>\n Be brief.\n<|end|>\n<|user|>\n  Größe? <|end|>\n"
     "<|assistant|>\n\n日本 🙂 <|end|>\n<|user|>\n<|im_end|><|eot_id|>\n"
     "<end_of_turn>[/INST]<|end|></s><|end|>\n<|assistant|>\n",
     "<|user|>\n<|end|>\n<|assistant|>\n<|end|>\n<|user|>\nx<|end|>\n"
     "<|assistant|>\n"},
    {"Phi-4-mini", "phi3", R"({{ '<|' + role + '|>' + content + '<|end|>' }}{{ '<|assistant|>' }})",
     "<|user|>Hi<|end|><|assistant|>",
     "<|system|> Be brief.\n<|end|><|user|>  Größe? <|end|><|assistant|>\n"
     "日本 🙂 <|end|><|user|><|im_end|><|eot_id|>\n"
     "<end_of_turn>[/INST]<|end|></s><|end|><|assistant|>",
     "<|user|><|end|><|assistant|><|end|><|user|>x<|end|><|assistant|>"},
    {"Mistral 7B v0.2", "mistral",
     R"({{ bos_token }}{% if loop.first and system_message is defined %}
{{ ' [INST] ' + system_message + '\n\n' + content + ' [/INST]' }}{{ ' ' + content + eos_token }})",
     "<bos> [INST] Hi [/INST]",
     "<bos> [INST]  Be brief.\n\n\n  Größe?  [/INST] \n"
     "日本 🙂 </s> [INST] <|im_end|><|eot_id|>\n"
     "<end_of_turn>[/INST]<|end|></s> [/INST]",
     "<bos> [INST]  [/INST] </s> [INST] x [/INST]"},
    {"Mistral Large 2407", "mistral",
     R"({{ bos_token }}{% if loop.last and system_message is defined %}
{{ "[INST] " + system_message + "\n\n" + content + "[/INST]" }}{{ " " + content | trim + eos_token }})",
     "<bos>[INST] Hi[/INST]",
     "<bos>[INST]   Größe? [/INST] 日本 🙂</s>[INST]  Be brief.\n\n\n"
     "<|im_end|><|eot_id|>\n<end_of_turn>[/INST]<|end|></s>[/INST]",
     "<bos>[INST] [/INST] </s>[INST] x[/INST]"},
    {"Mistral Nemo", "mistral",
     R"({{ bos_token }}{% if loop.last and system_message is defined %}
{{ "[INST]" + system_message + "\n\n" + content + "[/INST]" }}{{ content + eos_token }})",
     "<bos>[INST]Hi[/INST]",
     "<bos>[INST]  Größe? [/INST]\n日本 🙂 </s>[INST] Be brief.\n\n\n"
     "<|im_end|><|eot_id|>\n<end_of_turn>[/INST]<|end|></s>[/INST]",
     "<bos>[INST][/INST]</s>[INST]x[/INST]"},
};

std::string text_of(const std::vector<TextPart>& parts) {
  std::string text;
  for (const TextPart& part : parts) text += part.text;
  return text;
}

ChatTemplateSpec format_of(const Case& c) {
  return chat_template_spec(c.name, {std::string(c.chat_template), "<bos>"}, kToday);
}

class ChatTemplateSpecs : public ::testing::TestWithParam<Case> {};

TEST_P(ChatTemplateSpecs, AreDetectedByTheirTemplates) {
  EXPECT_EQ(detect_chat_format(GetParam().chat_template), GetParam().name);
}

TEST_P(ChatTemplateSpecs, RenderWhatTheTemplateRenders) {
  const ChatTemplateSpec format = format_of(GetParam());
  EXPECT_EQ(format.name, GetParam().name);
  EXPECT_EQ(text_of(format.render(kOne)), GetParam().one);
  EXPECT_EQ(text_of(format.render(kMany)), GetParam().many);
  EXPECT_EQ(text_of(format.render(kEmpty)), GetParam().empty);
}

TEST_P(ChatTemplateSpecs, OnlyMessageContentIsLiteral) {
  for (const auto& conversation : {kOne, kMany, kEmpty}) {
    size_t plain = 0;
    std::string frame;
    for (const TextPart& part : format_of(GetParam()).render(conversation)) {
      plain += part.literal;
      if (part.literal) {
        EXPECT_TRUE(std::any_of(conversation.begin(), conversation.end(), [&](const auto& message) {
          return message.content.find(part.text) != std::string::npos;
        })) << part.text;
      } else {
        frame += part.text;
      }
    }
    EXPECT_EQ(plain, conversation.size());
    for (const char* written : {"Hi", "Be brief", "Größe", "日本"})
      EXPECT_EQ(frame.find(written), std::string::npos) << frame;
  }
}

TEST_P(ChatTemplateSpecs, EndOfTurnIsAControlToken) {
  const ChatTemplateSpec format = format_of(GetParam());
  EXPECT_THAT(format.control_tokens, ::testing::Contains(format.end_of_turn));
  EXPECT_THAT(format.assistant_turn.close, HasSubstr(format.end_of_turn));
}

INSTANTIATE_TEST_SUITE_P(Templates, ChatTemplateSpecs, ::testing::ValuesIn(kCases),
                         [](const auto& info) {
                           std::string name;
                           for (const char c : info.param.model)
                             if (std::isalnum(static_cast<unsigned char>(c))) name += c;
                           return name;
                         });

const Case& of_model(std::string_view model) {
  return *std::find_if(std::begin(kCases), std::end(kCases),
                       [&](const Case& c) { return c.model == model; });
}

const std::vector<ChatMessage> kThought = {{Role::kUser, "q"},
                                           {Role::kAssistant, "<think>\nhm\n</think>\n\nanswer"},
                                           {Role::kUser, "again"}};

TEST(ChatTemplateSpec, DropsReasoningOfEarlierTurnsAndCanSwitchItOff) {
  const ChatTemplateSpec qwen3 = format_of(of_model("Qwen3"));
  EXPECT_TRUE(qwen3.has_reasoning);
  EXPECT_FALSE(qwen3.prompt_opens_reasoning);
  const std::string asked =
      "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nanswer<|im_end|>\n"
      "<|im_start|>user\nagain<|im_end|>\n<|im_start|>assistant\n";
  EXPECT_EQ(text_of(qwen3.render(kThought)), asked);
  EXPECT_EQ(text_of(qwen3.render(kThought, false)), asked + "<think>\n\n</think>\n\n");
  // In a format without reasoning, <think> is ordinary content.
  EXPECT_THAT(text_of(format_of(of_model("SmolLM2")).render(kThought)),
              HasSubstr("assistant\n<think>\nhm\n</think>\n\nanswer<|im_end|>"));
}

TEST(ChatTemplateSpec, PromptOpensTheReasoningOfModelsThatAlwaysReason) {
  const ChatTemplateSpec f =
      chat_template_spec("qwen3",
                         {R"({{ '<|im_start|>' + content.split('</think>')[-1] + '<|im_end|>' }})"
                          R"({{ '<|im_start|>assistant\n<think>\n' }})",
                          ""},
                         kToday);
  EXPECT_TRUE(f.prompt_opens_reasoning);
  EXPECT_EQ(f.no_thinking_suffix, "");
  EXPECT_EQ(text_of(f.render(kOne)),
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n");
}

TEST(ChatTemplateSpec, UsesDefaultsIfTheTemplateRendersAnotherFormat) {
  const ChatTemplate other{std::string(of_model("Qwen2.5").chat_template), "<bos>"};
  const auto render = [&](std::string_view name) {
    return text_of(chat_template_spec(name, other, kToday).render(kOne));
  };
  EXPECT_EQ(render("chatml"), of_model("Qwen2.5").one);
  EXPECT_EQ(render("qwen3"), of_model("Qwen3").one);
  EXPECT_EQ(render("llama3"), of_model("Llama 3").one);
  EXPECT_EQ(render("gemma"), of_model("Gemma 3").one);
  EXPECT_EQ(render("phi3"), of_model("Phi-3.5").one);
  EXPECT_EQ(render("mistral"), of_model("Mistral Large 2407").one);
  EXPECT_EQ(text_of(chat_template_spec("chatml", {}, kToday).render(kOne)), of_model("Qwen3").one);
  EXPECT_THAT(chat_format_names(),
              ::testing::UnorderedElementsAre("harmony", "chatml", "qwen3", "llama3", "gemma",
                                              "phi3", "mistral"));
}

TEST(ChatTemplateSpec, ReadsTheDefaultSystemMessageAsJinjaWould) {
  const auto default_system = [](const std::string& text) {
    return chat_template_spec("chatml", {text + "<|im_start|><|im_end|>", ""}, kToday)
        .default_system;
  };
  EXPECT_EQ(default_system(R"({{ '<|im_start|>system\nIt\'s\t"so".<|im_end|>\n' }})"),
            "It's\t\"so\".");
  EXPECT_EQ(default_system("{{ \"<|im_start|>system\nIt's {so}.<|im_end|>\n\" }}"), "It's {so}.");
  EXPECT_EQ(default_system("{% if x %}<|im_start|>system\nIt's {so}.<|im_end|>\n{% endif %}"),
            "It's {so}.");
  EXPECT_EQ(default_system(R"({{ '<|im_start|>system\n' + content + '<|im_end|>\n' }})"), "");
  EXPECT_EQ(default_system("{% if x %}<|im_start|>system\n{{ content }}<|im_end|>"), "");
  EXPECT_EQ(default_system(R"({{ '<|im_start|>system\n<|im_end|>\n' }})"), "");
}

TEST(ChatTemplateSpec, ReadsMarkersInLiteralsAndBetweenTags) {
  const auto turn = [](std::string_view text) {
    return chat_template_spec("mistral", {std::string(text), ""}, kToday).user_turn;
  };
  for (const char* text : {"{% if user %}[INST] {{ content }} [/INST]{% endif %}",
                           "[INST] {{ content }} [/INST]", R"({{ "[INST] " + c + ' [/INST]' }})"}) {
    EXPECT_EQ(turn(text).open, "[INST] ") << text;
    EXPECT_EQ(turn(text).close, " [/INST]") << text;
  }
}

TEST(ChatTemplateSpec, RejectsRolesThatDoNotAlternate) {
  const ChatTemplateSpec f = chat_template_spec("chatml", {}, kToday);
  const auto error_of = [&](const std::vector<ChatMessage>& messages) {
    return message_of([&] { f.render(messages); });
  };
  const ChatMessage system{Role::kSystem, "s"}, user{Role::kUser, "u"},
      answer{Role::kAssistant, "a"};
  EXPECT_THAT(error_of({}), HasSubstr("messages[0]: is missing"));
  EXPECT_THAT(error_of({system}), HasSubstr("messages[1]: is missing"));
  EXPECT_THAT(error_of({answer, user}),
              HasSubstr("messages[0]: has role assistant, expected user"));
  EXPECT_THAT(error_of({user, user}), HasSubstr("messages[1]: has role user, expected assistant"));
  EXPECT_THAT(error_of({user, system}),
              HasSubstr("messages[1]: has role system, expected assistant"));
  EXPECT_THAT(error_of({user, answer}), HasSubstr("messages[2]: is missing"));
  EXPECT_EQ(error_of({system, user, answer, user}), "no error");
}

TEST(ChatTemplate, UnknownTemplatesAreNotGuessed) {
  constexpr std::string_view kChatMl =
      "{{ '<|im_start|>' + role + '\\n' + content + '<|im_end|>\\n' }}";
  const auto with = [&](std::string_view more) {
    return detect_chat_format(std::string(kChatMl) + std::string(more));
  };
  EXPECT_EQ(with(""), "chatml");
  // Stripped whitespace, a date, another form of reasoning, markers of Phi-4.
  for (const char* more : {"{{ content | trim }}", "{{ content.strip() }}",
                           "{{ strftime_now('%d') }}", "{{ '<think>' }}", "{{ '<|im_sep|>' }}"})
    EXPECT_EQ(with(more), std::nullopt) << more;
  for (const char* text : {"", "{{ messages }}", "[INST] <<SYS>>\n{{ system }} [/INST]",
                           "<|user|>\n{{ content }}{{ eos_token }}<|assistant|>",
                           "[SYSTEM_PROMPT]x[/SYSTEM_PROMPT][INST]y[/INST]"})
    EXPECT_EQ(detect_chat_format(text), std::nullopt) << text;
  EXPECT_EQ(detect_chat_format("{{ '<|start|>user<|channel|>final<|message|>' }}"), "harmony");
}

TEST(ChatTemplate, IsDescribedByItsControlTokens) {
  EXPECT_EQ(control_tokens_in("{{ '<|a|>' + x + '<b><|a|>' }}{{ i < j }} <c d> <"), "<|a|>, <b>");
  EXPECT_EQ(control_tokens_in("{{ messages }}"), "");
  EXPECT_EQ(control_tokens_in("<1><2><3><4><5><6><7>"), "<1>, <2>, <3>, <4>, <5>, <6>");
  EXPECT_EQ(control_tokens_in("<\x1b[2J>"), "<\\x1b[2J>");
}

TEST(ChatTemplate, WithoutOneTheVocabularyIdentifiesHarmony) {
  const auto all = [](std::string_view) { return true; };
  const auto none = [](std::string_view) { return false; };
  EXPECT_EQ(detect_chat_format({}, all), kHarmonyFormat);
  EXPECT_EQ(detect_chat_format({}, none), std::nullopt);
  EXPECT_EQ(detect_chat_format({"{{ messages }}", ""}, all), std::nullopt);
  EXPECT_EQ(detect_chat_format({std::string(of_model("Qwen3").chat_template), ""}, all), "qwen3");
}

TEST(ChatTemplate, HostileLengthTakesLinearTime) {
  const auto repeat = [](std::string_view text) {
    std::string all = "<|im_end|>";
    while (all.size() < (4 << 20)) all += text;
    return all;
  };
  for (const char* text :
       {"<|im_start|>system\n", "'<|im_start|>system\n", "<", "[INST][/INST]'"}) {
    const std::string hostile = repeat(text);
    control_tokens_in(hostile);
    const auto name = detect_chat_format(hostile);
    if (name) chat_template_spec(*name, {hostile, ""}, kToday);
  }
}

/// A byte-level tokenizer with ChatML's tokens.
std::shared_ptr<const Tokenizer> chatml_tokenizer(std::string_view plain = {}) {
  std::string text = harmony::small_tokenizer_json({}, plain);
  const auto rename = [&](std::string_view from, std::string_view to) {
    text.replace(text.find(from), from.size(), to);
  };
  rename("<|start|>", "<|im_start|>");
  rename("<|end|>", "<|im_end|>");
  return Tokenizer::from_json(text, "t.json");
}

TEST(ChatTemplateSpec, ChecksTheVocabulary) {
  const ChatTemplateSpec f = chat_template_spec("chatml", {}, kToday);
  EXPECT_EQ(f.end_of_turn_id(*chatml_tokenizer()), 257);
  const auto error_of = [&](const Tokenizer& tokenizer) {
    return message_of([&] { f.end_of_turn_id(tokenizer); });
  };
  EXPECT_THAT(error_of(*harmony::small_tokenizer()), HasSubstr("has no token '<|im_start|>'"));
  EXPECT_THAT(error_of(*chatml_tokenizer("<|end|>")),
              HasSubstr("does not mark '<|im_end|>' as special"));
}

TEST(ChatTemplateSpec, ControlTokensInMessagesStayText) {
  const auto tokenizer = chatml_tokenizer();
  const ChatTemplateSpec f = chat_template_spec("chatml", {}, kToday);
  const auto ids = tokenizer->encode(f.render({{{Role::kUser, "<|im_end|>\xff<|im_start|>"}}}));
  std::vector<TokenId> control;
  for (const TokenId id : ids) {
    if (tokenizer->is_special(id)) control.push_back(id);
  }
  EXPECT_THAT(control, ElementsAre(256, 257, 256));
  EXPECT_EQ(tokenizer->decode(ids),
            "<|im_start|>user\n<|im_end|>\uFFFD<|im_start|><|im_end|>\n<|im_start|>assistant\n");
}

}  // namespace
}  // namespace mxgpt::text
