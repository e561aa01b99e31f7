// A server with a scripted handler, and clients that write raw bytes.
#pragma once

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <new>
#include <thread>

#include "server/http/http_server.h"

namespace mxgpt::server {

using namespace std::chrono_literals;

/// Long enough for a slow and busy machine: only a hang exceeds it.
inline constexpr std::chrono::seconds kMaxWait{120};

class Socket {
 public:
  explicit Socket(uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    const timeval limit{kMaxWait.count(), 0};
    setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  }
  Socket(Socket&& other) noexcept : socket_(std::exchange(other.socket_, -1)) {}
  ~Socket() { close(); }
  void close() {
    if (socket_ >= 0) ::close(socket_);
    socket_ = -1;
  }
  /// Returns false if the server has closed the connection.
  bool send(std::string_view text) {
    while (!text.empty()) {
      const auto sent = ::send(socket_, text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      text.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  /// Sends as much as the kernel accepts at once.
  bool send_some(std::string_view text) {
    return ::send(socket_, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT) > 0;
  }
  /// Reads until `end` has been received or the connection ends.
  std::string read_until(std::string_view end) {
    std::string all;
    char buffer[4096];
    while (end.empty() || all.find(end) == all.npos) {
      const auto got = recv(socket_, buffer, sizeof buffer, 0);
      if (got <= 0) break;
      all.append(buffer, static_cast<size_t>(got));
    }
    return all;
  }
  std::string read_all() { return read_until(""); }
  std::string get(std::string_view path) {
    send(fmt::format("GET {} HTTP/1.1\r\nhost: x\r\n\r\n", path));
    return read_until("}");
  }

 private:
  int socket_;
};

/// Routes: /text, /post, /slow, /wait (never completes), /silence (a stream without events), /count
/// (three events), /flood (endless large events), /no-body (accepts no body), and faults:
/// /defect, /memory (allocation fails in the handler), /memory-io (on the I/O thread).
class TestHandler : public Handler {
 public:
  std::variant<HttpResponse, Admission> admit(const HttpRequestHead& head) override {
    if (head.path == "/refused") return transport_error(head, 401, "no");
    if (head.path == "/memory-admit") throw std::bad_alloc();
    ++leases;
    return Admission{.lease = std::shared_ptr<void>(nullptr, [this](void*) { --leases; }),
                     .client = "ada",
                     .takes_body = head.path != "/no-body"};
  }
  HandlerResult handle(HttpRequest request) override {
    const std::string& path = request.head.path;
    if (path == "/wait") return std::make_unique<NeverReady>(*this);
    if (path == "/silence") return std::make_unique<SilentStream>(*this);
    if (path == "/count") return std::make_unique<CountingStream>(*this, 3, "");
    if (path == "/flood")
      return std::make_unique<CountingStream>(*this, INT_MAX, std::string(1 << 16, 'x'));
    if (path == "/memory-io") return std::make_unique<OutOfMemory>(*this);
    if (path == "/memory") throw std::bad_alloc();
    if (path == "/slow") std::this_thread::sleep_for(100ms);
    if (path == "/defect") throw std::runtime_error("a defect");
    return HttpResponse{.body = fmt::format("{{{} {}}}", request.head.method, request.body)};
  }
  HttpResponse transport_error(const HttpRequestHead&, int status,
                               const std::string& message) override {
    return {.status = status, .body = "{" + message + "}"};
  }
  void log(const AccessLogEntry& entry) override { last_status = entry.status; }

  std::atomic<int> leases = 0, pending = 0, last_status = 0;
  std::atomic<int64_t> events = 0;

 private:
  struct Counted {
    explicit Counted(TestHandler& h) : handler(h) { ++handler.pending; }
    ~Counted() { --handler.pending; }
    TestHandler& handler;
  };
  class NeverReady : public UnaryResponse, Counted {
   public:
    using Counted::Counted;
    void on_ready(std::function<void(bool)>) override {}
    bool made_progress() const override { return false; }
    std::optional<HttpResponse> poll() override { return std::nullopt; }
  };
  class OutOfMemory : public UnaryResponse, Counted {
   public:
    using Counted::Counted;
    void on_ready(std::function<void(bool)>) override {}
    bool made_progress() const override { return false; }
    std::optional<HttpResponse> poll() override { throw std::bad_alloc(); }
  };
  class SilentStream : public EventStream, Counted {
   public:
    using Counted::Counted;
    void on_ready(std::function<void(bool)>) override {}
    bool made_progress() const override { return false; }
    bool poll(std::string&) override { return true; }
  };
  class CountingStream : public EventStream, Counted {
   public:
    CountingStream(TestHandler& h, int count, std::string padding)
        : Counted(h), count_(count), padding_(std::move(padding)) {}
    void on_ready(std::function<void(bool)>) override {}
    bool made_progress() const override { return true; }
    bool poll(std::string& out) override {
      ++handler.events;
      out += fmt::format("data: {}{}\n\n", next_, padding_);
      return ++next_ < count_;
    }

   private:
    int next_ = 0, count_;
    std::string padding_;
  };
};

inline bool eventually(const std::function<bool()>& condition) {
  const auto until = std::chrono::steady_clock::now() + kMaxWait;
  while (std::chrono::steady_clock::now() < until) {
    if (condition()) return true;
    std::this_thread::sleep_for(5ms);
  }
  return false;
}

class HttpServerTest : public testing::Test {
 protected:
  HttpServer& start(const std::function<void(HttpOptions&)>& change = [](HttpOptions&) {}) {
    HttpOptions options{.port = 0};
    change(options);
    server_.emplace(handler_, options);
    return *server_;
  }
  Socket client() { return Socket(server_->port()); }
  /// Sends a request on a connection of its own and returns all that comes back.
  std::string exchange(const std::string& request) {
    Socket socket = client();
    socket.send(request);
    return socket.read_all();
  }

  TestHandler handler_;
  std::optional<HttpServer> server_;
};

}  // namespace mxgpt::server
