// Memory that all request bodies share.
#pragma once

#include <atomic>
#include <cstddef>
#include <utility>

namespace mxgpt::server {

/// Thread-safe.
class BodyBudget {
 public:
  explicit BodyBudget(size_t limit) : limit_(limit) {}

  /// Bytes of one body; returned to the budget on destruction.
  class Share {
   public:
    explicit Share(BodyBudget& budget) : budget_(budget) {}
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;
    ~Share() { budget_.used_ -= bytes_; }
    /// Returns false, and adds nothing, if the budget would be exceeded.
    bool add(size_t bytes) {
      if (budget_.used_.fetch_add(bytes) + bytes > budget_.limit_) {
        budget_.used_ -= bytes;
        return false;
      }
      bytes_ += bytes;
      return true;
    }

   private:
    BodyBudget& budget_;
    size_t bytes_ = 0;
  };

  size_t used() const { return used_; }

 private:
  const size_t limit_;
  std::atomic<size_t> used_ = 0;
};

}  // namespace mxgpt::server
