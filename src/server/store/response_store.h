// Responses kept for previous_response_id and GET, in SQLite: in a file they outlive the server,
// however it ends.
//
// What was written is there after a crash of the program (write-ahead log). Number and bytes are
// bounded; the longest unused go first, where going on from a response uses all before it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

struct sqlite3;

namespace mxgpt::server {

struct StoreOptions {
  std::filesystem::path file;  ///< made if it is not there; empty: in memory
  int64_t max_count = 10'000;
  int64_t max_bytes = 256 << 20;  ///< of what is said in them
};

struct StoredResponse {
  std::string id;
  std::string client;       ///< whose key made it; others never see it
  std::string previous_id;  ///< id of the one that it goes on from; empty: none
  std::string input;        ///< its own items, a JSON array
  std::string response;     ///< JSON, as it was answered
};

/// Thread-safe.
class ResponseStore {
 public:
  /// Throws Error if the file cannot be opened, is in use, or is of something else.
  explicit ResponseStore(const StoreOptions& options);
  /// Writes what still waits.
  ~ResponseStore();

  /// Kept by a thread of the store. `done` is called from it, with what went wrong, or nothing.
  void put(StoredResponse response, std::function<void(const std::string& error)> done);

  // These wait for the file. They throw ApiError, a 503, if it is busy for long, and a 500 if it
  // cannot be read.
  std::optional<StoredResponse> get(const std::string& client, const std::string& id);
  /// The response and all that it goes on from, the oldest first; of what is gone, and before it,
  /// nothing.
  std::vector<StoredResponse> chain(const std::string& client, const std::string& id);
  /// Whether there was such a response.
  bool erase(const std::string& client, const std::string& id);

  struct Status {
    int64_t count = 0, bytes = 0;
    int64_t failed = 0;      ///< responses that could not be kept
    std::string last_error;  ///< empty when the last one could
  };
  Status status() const;

 private:
  class Statement;
  struct Job {
    StoredResponse response;
    std::function<void(const std::string& error)> done;
  };
  struct Closer {
    void operator()(sqlite3* database) const;
  };

  void execute(const char* sql);
  int64_t query_integer(const char* sql);
  void create_tables();
  void writer_loop();
  void insert(const StoredResponse& response);
  void evict_until_fits(int64_t bytes);
  std::unique_lock<std::timed_mutex> lock();
  static StoredResponse read_row(Statement& statement);

  const StoreOptions options_;
  std::timed_mutex mutex_;  // of the database
  std::unique_ptr<sqlite3, Closer> database_;
  int64_t last_used_ = 0;  // of uses

  mutable std::mutex status_mutex_;
  Status status_;

  std::mutex jobs_mutex_;  // of all below
  std::condition_variable jobs_available_;
  std::deque<Job> jobs_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace mxgpt::server
