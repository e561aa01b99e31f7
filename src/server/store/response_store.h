// Stored responses, for previous_response_id and GET, in SQLite. With a file they survive a restart
// or a crash of the server (write-ahead log).
//
// Count and bytes are bounded: the least recently used are evicted first. Continuing a response
// uses the whole chain before it.
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
  std::filesystem::path file;  ///< created if missing; empty: in memory
  int64_t max_count = 10'000;
  int64_t max_bytes = 256 << 20;  ///< of their contents
};

struct StoredResponse {
  std::string id;
  std::string client;       ///< name of the API key that created it; no other can read it
  std::string previous_id;  ///< id of the response that it continues; empty: none
  std::string input;        ///< its own input items, a JSON array
  std::string response;     ///< the response object, JSON
};

/// Thread-safe.
class ResponseStore {
 public:
  /// Throws Error if the file cannot be opened, is in use, or is another kind of database.
  explicit ResponseStore(const StoreOptions& options);
  /// Writes the pending responses.
  ~ResponseStore();

  /// Stores asynchronously. A thread of the store calls `done`, with an error message or an empty
  /// string.
  void put(StoredResponse response, std::function<void(const std::string& error)> done);

  // These block on the file. They throw ApiError: a 503 if it stays busy, a 500 if it cannot be
  // read.
  std::optional<StoredResponse> get(const std::string& client, const std::string& id);
  /// The response and those that it continues, oldest first. Ends at a response that is missing.
  std::vector<StoredResponse> chain(const std::string& client, const std::string& id);
  /// Returns whether the response existed.
  bool erase(const std::string& client, const std::string& id);

  struct Status {
    int64_t count = 0, bytes = 0;
    int64_t failed = 0;      ///< responses that could not be stored
    std::string last_error;  ///< empty if the last response was stored
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
  std::timed_mutex mutex_;  // guards the database
  std::unique_ptr<sqlite3, Closer> database_;
  int64_t last_used_ = 0;  // logical time of the last use

  mutable std::mutex status_mutex_;
  Status status_;

  std::mutex jobs_mutex_;  // guards the members below
  std::condition_variable jobs_available_;
  std::deque<Job> jobs_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace mxgpt::server
