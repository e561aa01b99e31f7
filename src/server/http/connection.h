// One HTTP connection: reads requests, hands them to the handler and writes the results.
#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/http/body_budget.h"
#include "server/http/deadline.h"
#include "server/http/http.h"
#include "server/http/http_options.h"
#include "server/http/request_parser.h"
#include "server/http/stream.h"

namespace mxgpt::server {

/// State that all connections share; outlives them.
struct ConnectionContext {
  Handler& handler;
  const HttpOptions& options;
  boost::asio::thread_pool& workers;  ///< that run the handler
  BodyBudget& body_budget;
  std::atomic<bool>& draining;
};

/// All of it runs on one strand.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(const ConnectionContext& context, std::unique_ptr<Stream> stream);

  /// Serves requests until either side ends the connection. Never throws.
  boost::asio::awaitable<void> run();
  // From any thread:
  /// Closes the connection if it is between requests.
  void drain();
  void drop();

 private:
  using Clock = std::chrono::steady_clock;

  // connection.cpp: dispatch.
  boost::asio::awaitable<void> serve();
  boost::asio::awaitable<bool> serve_request();
  boost::asio::awaitable<bool> process(RequestParser& parser);
  struct Call {
    HttpRequest request;
    HandlerResult result;
    bool done = false;  // set on the strand
  };
  std::shared_ptr<Call> call_handler(HttpRequest request);
  boost::asio::awaitable<bool> refuse(int status, const std::string& message);
  bool client_disconnected();
  void close();

  // connection_read.cpp.
  boost::asio::awaitable<bool> wait_for_request();
  boost::asio::awaitable<bool> read_header(RequestParser& parser);
  boost::asio::awaitable<bool> read_body(RequestParser& parser);
  boost::asio::awaitable<bool> read_more();
  boost::asio::awaitable<void> linger();
  void start_read();
  void on_read(const boost::system::error_code& error, size_t bytes);

  // connection_write.cpp.
  boost::asio::awaitable<bool> send_result(HandlerResult result, bool keep_alive);
  boost::asio::awaitable<bool> send_response(HttpResponse response, bool keep_alive);
  boost::asio::awaitable<bool> send_events(EventStream& events, bool keep_alive);
  boost::asio::awaitable<bool> write(std::string_view first, std::string_view second = {});
  std::string response_head(const HttpResponse& response, bool keep_alive);
  boost::asio::awaitable<void> wait_for_output(const DeferredResponse& response,
                                               Clock::time_point until);
  std::function<void(bool)> make_wake_callback();

  void wake();
  boost::asio::awaitable<void> sleep_until(Clock::time_point until);

  const ConnectionContext context_;
  std::unique_ptr<Stream> stream_;
  Deadline deadline_;
  boost::asio::steady_timer wake_timer_;
  bool wake_pending_ = false;
  std::atomic<bool> coalescing_ = false;  // events: only their end wakes the connection

  std::vector<char> incoming_;  // of the pending read
  std::string input_;           // received and not parsed yet
  uint64_t bytes_read_ = 0;
  bool reading_ = false;  // a read is pending
  bool disconnected_ = false;

  bool idle_ = true;  // between requests
  bool is_first_request_ = true;
  bool request_active_ = false;  // keep reading, to notice when the client disconnects
  std::shared_ptr<void> lease_;  // of the active request
  HttpRequestHead head_;
  bool is_head_method_ = false, is_http10_ = false;
  AccessLogEntry log_entry_;
};

}  // namespace mxgpt::server
