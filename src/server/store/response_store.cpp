#include "server/store/response_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sqlite3.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "server/api/api_error.h"

namespace mxgpt::server {

namespace {

constexpr int kApplicationId = 0x6d786770;  // "mxgp"
constexpr int kSchemaVersion = 1;
constexpr std::chrono::seconds kMaxWait{5};  // how long a request waits for the database

/// An error that SQLite reports.
struct DatabaseError : std::runtime_error {
  explicit DatabaseError(sqlite3* database)
      : std::runtime_error(database ? sqlite3_errmsg(database) : "out of memory") {}
};

int64_t size_of(const StoredResponse& r) {
  return static_cast<int64_t>(r.id.size() + r.client.size() + r.previous_id.size() +
                              r.input.size() + r.response.size());
}

}  // namespace

void ResponseStore::Closer::operator()(sqlite3* database) const {
  sqlite3_close(database);
}

/// A prepared statement and its bindings.
class ResponseStore::Statement {
 public:
  Statement(sqlite3* database, std::string_view sql) : database_(database) {
    if (sqlite3_prepare_v2(database, sql.data(), static_cast<int>(sql.size()), &statement_,
                           nullptr) != SQLITE_OK)
      throw DatabaseError(database);
  }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  ~Statement() { sqlite3_finalize(statement_); }

  Statement& bind(const std::string& text) {
    return check(sqlite3_bind_text64(statement_, ++bound_, text.data(), text.size(), SQLITE_STATIC,
                                     SQLITE_UTF8));
  }
  Statement& bind(int64_t number) {
    return check(sqlite3_bind_int64(statement_, ++bound_, number));
  }
  /// Returns whether a row is available.
  bool step() {
    const int result = sqlite3_step(statement_);
    if (result != SQLITE_ROW && result != SQLITE_DONE) throw DatabaseError(database_);
    return result == SQLITE_ROW;
  }
  std::string text(int column) const {
    const auto* bytes = static_cast<const char*>(sqlite3_column_blob(statement_, column));
    const auto size = static_cast<size_t>(sqlite3_column_bytes(statement_, column));
    return bytes ? std::string(bytes, size) : std::string();
  }
  int64_t integer(int column) const { return sqlite3_column_int64(statement_, column); }

 private:
  Statement& check(int result) {
    if (result != SQLITE_OK) throw DatabaseError(database_);
    return *this;
  }

  sqlite3* database_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

ResponseStore::ResponseStore(const StoreOptions& options) : options_(options) {
  const std::string path = options.file.empty() ? ":memory:" : options.file.string();
  if (!options.file.empty()) {
    // The file holds conversations: only its owner may read it.
    const int file = ::open(path.c_str(), O_CREAT | O_CLOEXEC | O_RDWR, 0600);
    if (file < 0)
      throw Error(field::kResponseStore, fmt::format("cannot open '{}'", path), "use another file");
    ::close(file);
  }
  try {
    sqlite3* database = nullptr;
    const int opened =
        sqlite3_open_v2(path.c_str(), &database,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
    database_.reset(database);
    if (opened != SQLITE_OK) throw DatabaseError(database);
    create_tables();
  } catch (const DatabaseError& e) {
    throw Error(field::kResponseStore, fmt::format("cannot use '{}': {}", path, e.what()),
                "use another file, or check whether another server is using it");
  }
  thread_ = std::thread([this] { writer_loop(); });
}

ResponseStore::~ResponseStore() {
  {
    const std::lock_guard lock(jobs_mutex_);
    stopping_ = true;
  }
  jobs_available_.notify_one();
  thread_.join();
}

void ResponseStore::execute(const char* sql) {
  if (sqlite3_exec(database_.get(), sql, nullptr, nullptr, nullptr) != SQLITE_OK)
    throw DatabaseError(database_.get());
}

int64_t ResponseStore::query_integer(const char* sql) {
  Statement statement(database_.get(), sql);
  return statement.step() ? statement.integer(0) : 0;
}

void ResponseStore::create_tables() {
  sqlite3_busy_timeout(database_.get(), 2000);
  // One server owns the file: counts in memory stay correct, and no shared memory is needed.
  execute("PRAGMA locking_mode = EXCLUSIVE");
  execute("PRAGMA journal_mode = WAL");
  execute("PRAGMA synchronous = NORMAL");
  execute("PRAGMA journal_size_limit = 16777216");
  execute("PRAGMA trusted_schema = OFF");
  const bool is_new = query_integer("SELECT count(*) FROM sqlite_master") == 0;
  if (!is_new && query_integer("PRAGMA application_id") != kApplicationId)
    throw Error(field::kResponseStore,
                fmt::format("'{}' is a database of another application", options_.file.string()),
                "use another file");
  if (!is_new && query_integer("PRAGMA user_version") != kSchemaVersion)
    throw Error(field::kResponseStore,
                fmt::format("'{}' was written by another version of mxgpt", options_.file.string()),
                "use another file");
  if (is_new) {
    execute(
        fmt::format(
            "BEGIN IMMEDIATE;"
            "CREATE TABLE responses (id TEXT PRIMARY KEY, client TEXT NOT NULL, previous TEXT NOT "
            "NULL, input TEXT NOT NULL, response TEXT NOT NULL, bytes INTEGER NOT NULL, used "
            "INTEGER NOT NULL) WITHOUT ROWID;"
            "CREATE INDEX by_use ON responses (used, bytes);"
            "PRAGMA application_id = {}; PRAGMA user_version = {}; COMMIT",
            kApplicationId, kSchemaVersion)
            .c_str());
  }
  status_.count = query_integer("SELECT count(*) FROM responses");
  status_.bytes = query_integer("SELECT ifnull(sum(bytes), 0) FROM responses");
  last_used_ = query_integer("SELECT ifnull(max(used), 0) FROM responses");
}

void ResponseStore::put(StoredResponse response,
                        std::function<void(const std::string& error)> done) {
  {
    const std::lock_guard lock(jobs_mutex_);
    jobs_.push_back({std::move(response), std::move(done)});
  }
  jobs_available_.notify_one();
}

void ResponseStore::writer_loop() {
  std::unique_lock jobs(jobs_mutex_);
  while (true) {
    jobs_available_.wait(jobs, [&] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    const Job job = std::move(jobs_.front());
    jobs_.pop_front();
    jobs.unlock();
    std::string error;
    try {
      const std::lock_guard lock(mutex_);
      insert(job.response);
    } catch (const std::exception& e) {
      error = e.what();
      log::error("cannot store response {}: {}", job.response.id, error);
    }
    {
      const std::lock_guard lock(status_mutex_);
      status_.last_error = error;
      if (!error.empty()) ++status_.failed;
    }
    job.done(error);
    jobs.lock();
  }
}

void ResponseStore::insert(const StoredResponse& response) {
  const int64_t bytes = size_of(response);
  if (bytes > options_.max_bytes)
    throw std::runtime_error(fmt::format("{} bytes exceed the limit of {} for all stored responses",
                                         bytes, options_.max_bytes));
  const Status before = status();
  execute("BEGIN IMMEDIATE");
  try {
    ++last_used_;
    // Its predecessors count as used too: they are evicted together.
    Statement(
        database_.get(),
        "WITH RECURSIVE chain(id) AS (VALUES (?1) UNION SELECT previous FROM responses JOIN chain "
        "USING (id)) UPDATE responses SET used = ?2 WHERE id IN chain")
        .bind(response.previous_id)
        .bind(last_used_)
        .step();
    evict_until_fits(bytes);
    Statement(database_.get(), "INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?)")
        .bind(response.id)
        .bind(response.client)
        .bind(response.previous_id)
        .bind(response.input)
        .bind(response.response)
        .bind(bytes)
        .bind(last_used_)
        .step();
    execute("COMMIT");
  } catch (...) {
    sqlite3_exec(database_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
    const std::lock_guard lock(status_mutex_);
    status_.count = before.count;
    status_.bytes = before.bytes;
    throw;
  }
  const std::lock_guard lock(status_mutex_);
  ++status_.count;
  status_.bytes += bytes;
}

/// Deletes the least recently used responses until one more of this size fits.
void ResponseStore::evict_until_fits(int64_t bytes) {
  while (true) {
    const Status now = status();
    if (now.count < options_.max_count && now.bytes + bytes <= options_.max_bytes) return;
    Statement oldest(database_.get(),
                     "DELETE FROM responses WHERE id = (SELECT id FROM responses ORDER BY used "
                     "LIMIT 1) RETURNING bytes");
    if (!oldest.step()) return;
    const int64_t freed = oldest.integer(0);
    oldest.step();
    const std::lock_guard lock(status_mutex_);
    --status_.count;
    status_.bytes -= freed;
  }
}

std::unique_lock<std::timed_mutex> ResponseStore::lock() {
  std::unique_lock lock(mutex_, kMaxWait);
  if (lock) return lock;
  ApiError error(503, "the response store is busy", {}, "store_busy");
  error.retry_after = 5;
  throw error;
}

StoredResponse ResponseStore::read_row(Statement& statement) {
  return {statement.text(0), statement.text(1), statement.text(2), statement.text(3),
          statement.text(4)};
}

namespace {
/// Runs a query for a client; database errors become a 500.
template <typename F>
auto with_api_errors(F f) {
  try {
    return f();
  } catch (const DatabaseError& e) {
    log::error("response store: {}", e.what());
    throw ApiError(500, fmt::format("the response store failed: {}", e.what()), {}, "store_failed");
  }
}
}  // namespace

std::optional<StoredResponse> ResponseStore::get(const std::string& client, const std::string& id) {
  const auto locked = lock();
  return with_api_errors([&]() -> std::optional<StoredResponse> {
    Statement statement(database_.get(),
                        "SELECT id, client, previous, input, response FROM responses WHERE id = ? "
                        "AND client = ?");
    if (!statement.bind(id).bind(client).step()) return std::nullopt;
    return read_row(statement);
  });
}

std::vector<StoredResponse> ResponseStore::chain(const std::string& client, const std::string& id) {
  const auto locked = lock();
  return with_api_errors([&] {
    Statement statement(
        database_.get(),
        "WITH RECURSIVE chain(id, depth) AS (VALUES (?1, 0) UNION ALL SELECT previous, depth + 1 "
        "FROM "
        "responses JOIN chain USING (id) WHERE client = ?2) SELECT r.id, r.client, r.previous, "
        "r.input, r.response FROM chain JOIN responses r USING (id) WHERE r.client = ?2 ORDER BY "
        "depth DESC");
    statement.bind(id).bind(client);
    std::vector<StoredResponse> all;
    while (statement.step()) all.push_back(read_row(statement));
    return all;
  });
}

bool ResponseStore::erase(const std::string& client, const std::string& id) {
  const auto locked = lock();
  return with_api_errors([&] {
    Statement statement(database_.get(),
                        "DELETE FROM responses WHERE id = ? AND client = ? RETURNING bytes");
    if (!statement.bind(id).bind(client).step()) return false;
    const int64_t freed = statement.integer(0);
    statement.step();
    const std::lock_guard lock(status_mutex_);
    --status_.count;
    status_.bytes -= freed;
    return true;
  });
}

ResponseStore::Status ResponseStore::status() const {
  const std::lock_guard lock(status_mutex_);
  return status_;
}

}  // namespace mxgpt::server
