// Names are from llama.cpp's converter (convert_hf_to_gguf_update.py), expressions from the models'
// tokenizer.json files.
#include "text/tokenizer/gguf_pre_tokenizers.h"

#include <algorithm>

namespace mxgpt::tokenizer {
namespace {

using Splits = std::span<const std::string_view>;

#define CONTRACTION R"((?i:'s|'t|'re|'ve|'m|'ll|'d))"
#define LINES_AND_BLANKS R"(|\s*[\r\n]+|\s+(?!\S)|\s+)"
#define WORDS_BY_CASE(end)                                                              \
  R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)" end \
  R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)" end
#define GPT2 R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"
#define DEEPSEEK_WORDS                                                                      \
  R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)" \
  R"(| ?[\p{P}\p{S}]+[\r\n]*)" LINES_AND_BLANKS

constexpr std::string_view kGpt2[] = {GPT2};
constexpr std::string_view kDefault[] = {R"([\p{P}\$\+<=>\^~\|]+)", GPT2, R"(\p{N}+)",
                                         "[0-9][0-9][0-9]"};
constexpr std::string_view kLlama3[] = {
    CONTRACTION
    R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)" LINES_AND_BLANKS};
constexpr std::string_view kQwen2[] = {
    CONTRACTION R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)" LINES_AND_BLANKS};
constexpr std::string_view kQwen35[] = {
    CONTRACTION
    R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*)" LINES_AND_BLANKS};
constexpr std::string_view kGpt4o[] = {
    WORDS_BY_CASE(CONTRACTION "?") R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*)" LINES_AND_BLANKS};
constexpr std::string_view kTekken[] = {
    WORDS_BY_CASE("") R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*)" LINES_AND_BLANKS};
constexpr std::string_view kDigitsThenGpt2[] = {R"(\p{N})", GPT2};
constexpr std::string_view kFalcon[] = {R"([\p{P}\$\+<=>\^~\|`]+)", GPT2, "[0-9][0-9][0-9]"};
constexpr std::string_view kDeepseekCoder[] = {
    R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)",
    R"([\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]+)", R"(\p{N})"};
constexpr std::string_view kDeepseekV3[] = {
    R"(\p{N}{1,3})", R"([\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)", DEEPSEEK_WORDS};
constexpr std::string_view kBloom[] = {R"( ?[^(\s|.,!?…。，、।۔،)]+)"};
constexpr std::string_view kViking[] = {kBloom[0], R"(\p{N})"};
constexpr std::string_view kBailing[] = {
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)"};
constexpr std::string_view kSeedCoder[] = {
    CONTRACTION R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+)" LINES_AND_BLANKS};
constexpr std::string_view kSuperBpe[] = {R"(\p{N}+)", R"((?=(\d{3})+(?!\d)))"};
constexpr std::string_view kKimiK2[] = {
    R"([\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+)" CONTRACTION
    R"(?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*)" CONTRACTION
    R"(?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)" LINES_AND_BLANKS};

#undef CONTRACTION
#undef LINES_AND_BLANKS
#undef WORDS_BY_CASE
#undef GPT2
#undef DEEPSEEK_WORDS

struct Entry {
  std::string_view name;
  GgufPreTokenizer pre_tokenizer;
};

constexpr Entry kEntries[] = {
    {"default", {kDefault}},
    // tiktoken-style BPE: a word in the vocabulary is never split by merges.
    {"gpt-4o", {kGpt4o, true}},
    {"llama4", {kGpt4o, true}},
    {"minimax-m2", {kGpt4o}},
    {"kimi-k2", {kKimiK2, true}},
    {"llama3", {kLlama3, true, true}},
    {"llama-v3", {kLlama3, true, true}},
    {"llama-bpe", {kLlama3, true, true}},
    {"falcon3", {kLlama3, true, true}},
    {"falcon-h1", {kLlama3, true, true}},
    {"pixtral", {kLlama3, true, true}},
    {"midm-2.0", {kLlama3, true, true}},
    {"lfm2", {kLlama3, true, true}},
    {"tekken", {kTekken, true, true}},
    {"dbrx", {kLlama3}},
    {"smaug-bpe", {kLlama3}},
    {"chatglm-bpe", {kLlama3}},
    {"glm4", {kLlama3}},
    {"qwen2", {kQwen2}},
    {"qwen35", {kQwen35}},
    {"stablelm2", {kQwen2}},
    {"deepseek-r1-qwen", {kQwen2}},
    {"kormo", {kQwen2}},
    {"megrez", {kQwen2}},
    {"hunyuan", {kQwen2}},
    {"solar-open", {kQwen2}},
    {"grok-2", {kQwen2}},
    {"gpt-2", {kGpt2}},
    {"phi-2", {kGpt2}},
    {"mpt", {kGpt2}},
    {"olmo", {kGpt2}},
    {"jais", {kGpt2}},
    {"trillion", {kGpt2}},
    {"granite-docling", {kGpt2}},
    {"gigachat", {kGpt2}},
    {"exaone4", {kGpt2}},
    {"jina-es", {kGpt2}},
    {"jina-de", {kGpt2}},
    {"jina-v1-en", {kGpt2}},
    {"jina-v2-es", {kGpt2}},
    {"jina-v2-de", {kGpt2}},
    {"jina-v2-code", {kGpt2}},
    {"roberta-bpe", {kGpt2}},
    {"starcoder", {kDigitsThenGpt2}},
    {"refact", {kDigitsThenGpt2}},
    {"command-r", {kDigitsThenGpt2}},
    {"smollm", {kDigitsThenGpt2}},
    {"codeshell", {kDigitsThenGpt2}},
    {"exaone", {kDigitsThenGpt2}},
    {"minerva-7b", {kDigitsThenGpt2}},
    {"falcon", {kFalcon}},
    {"deepseek-coder", {kDeepseekCoder}},
    {"deepseek-v3", {kDeepseekV3}},
    {"hunyuan-dense", {kDeepseekV3}},
    {"bloom", {kBloom}},
    {"poro-chat", {kBloom}},
    {"gpt3-finnish", {kBloom}},
    {"viking", {kViking}},
    {"bailingmoe", {kBailing}},
    {"llada-moe", {kBailing}},
    {"seed-coder", {kSeedCoder}},
    {"superbpe", {kSuperBpe}},
};

}  // namespace

const GgufPreTokenizer* find_gguf_pre_tokenizer(std::string_view name) {
  const Entry* found = std::find_if(std::begin(kEntries), std::end(kEntries),
                                    [&](const Entry& entry) { return entry.name == name; });
  return found == std::end(kEntries) ? nullptr : &found->pre_tokenizer;
}

std::string_view gguf_pre_tokenizer_name(std::span<const std::string_view> splits,
                                         bool ignore_merges) {
  for (const auto& [name, known] : kEntries) {
    if (known.ignore_merges == ignore_merges &&
        std::equal(known.splits.begin(), known.splits.end(), splits.begin(), splits.end())) {
      return name;
    }
  }
  return {};
}

}  // namespace mxgpt::tokenizer
