// The components of a tokenizer. Internal to this folder: built by tokenizer_json.cpp and
// gguf_vocabulary.cpp, run by tokenizer.cpp.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "text/tokenizer/added_tokens.h"
#include "text/tokenizer/decoder.h"
#include "text/tokenizer/model.h"
#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/post_processor.h"
#include "text/tokenizer/pre_tokenizer.h"
#include "text/tokenizer/tokenizer.h"

namespace mxgpt::tokenizer {

struct Pipeline {
  std::unique_ptr<Normalizer> normalizer;       ///< may be null
  std::unique_ptr<PreTokenizer> pre_tokenizer;  ///< may be null
  std::unique_ptr<Model> model;
  std::unique_ptr<AddedTokens> added_tokens;
  std::vector<PostProcessor> post_processors;
  std::vector<std::unique_ptr<Decoder>> decoders;

  static Pipeline from_json(std::string_view text, const std::string& where);
};

/// Scratch buffers of a model, one per thread that is encoding.
class ScratchPool {
 public:
  explicit ScratchPool(const Model& model) : model_(model) {}

  /// Borrows a buffer and returns it on destruction.
  class Lease {
   public:
    explicit Lease(ScratchPool& pool) : pool_(pool), scratch_(pool.acquire()) {}
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease() { pool_.release(std::move(scratch_)); }
    Model::Scratch& operator*() { return *scratch_; }

   private:
    ScratchPool& pool_;
    std::unique_ptr<Model::Scratch> scratch_;
  };

 private:
  std::unique_ptr<Model::Scratch> acquire() {
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        auto scratch = std::move(free_.back());
        free_.pop_back();
        return scratch;
      }
    }
    return model_.make_scratch();
  }
  void release(std::unique_ptr<Model::Scratch> scratch) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(scratch));
  }

  const Model& model_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Model::Scratch>> free_;
};

}  // namespace mxgpt::tokenizer
