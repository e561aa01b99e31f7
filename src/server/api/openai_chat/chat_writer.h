// Response of /v1/chat/completions.
#pragma once

#include <memory>
#include <vector>

#include "chat/output_parser.h"
#include "server/api/completion_pipeline.h"
#include "server/api/sampling_fields.h"

namespace mxgpt::server {

/// One parser per choice.
std::unique_ptr<ResponseWriter> make_chat_writer(
    std::shared_ptr<const ServedModel> served, const SamplingFields& sampling, bool logprobs,
    std::vector<std::unique_ptr<chat::OutputParser>> parsers);

}  // namespace mxgpt::server
