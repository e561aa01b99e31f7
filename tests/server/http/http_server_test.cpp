// The HTTP half against a handler of its own, through plain sockets: what clients do wrong, how
// they go, and that nothing is left behind.
#include "server/http/http_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <thread>

#include "base/error.h"
#include "support/message_of.h"

namespace mxgpt::server {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::StartsWith;
using Clock = std::chrono::steady_clock;

/// Far more than anything takes on a slow and busy machine: only what hangs fails.
constexpr std::chrono::seconds kMaxWait{120};

class Socket {
 public:
  explicit Socket(uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    const timeval limit{kMaxWait.count(), 0};
    setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
  ~Socket() { close(); }
  void close() {
    if (socket_ >= 0) ::close(socket_);
    socket_ = -1;
  }
  bool send(std::string_view text) {
    while (!text.empty()) {
      const auto sent = ::send(socket_, text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      text.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  /// Until the text is there, or the connection ends.
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

/// Routes: /text, /post, /slow, /wait (never answers), /silence (a stream without events), /count
/// (events 0…), /flood (endless large events).
class TestHandler : public Handler {
 public:
  std::variant<HttpResponse, Admission> admit(const HttpRequestHead& head) override {
    if (head.path == "/refused") return transport_error(head, 401, "no");
    ++leases;
    return Admission{std::shared_ptr<void>(nullptr, [this](void*) { --leases; }), "ada"};
  }
  HandlerResult handle(HttpRequest request) override {
    if (request.head.path == "/wait") return std::make_unique<NeverReady>(*this);
    if (request.head.path == "/silence") return std::make_unique<SilentStream>(*this);
    if (request.head.path == "/count") return std::make_unique<CountingStream>(*this, 3, "");
    if (request.head.path == "/flood")
      return std::make_unique<CountingStream>(*this, INT_MAX, std::string(1 << 16, 'x'));
    if (request.head.path == "/slow") std::this_thread::sleep_for(100ms);
    if (request.head.path == "/defect") throw std::runtime_error("a defect");
    return HttpResponse{.body = fmt::format("{{{} {}}}", request.head.method, request.body)};
  }
  HttpResponse transport_error(const HttpRequestHead&, int status,
                               const std::string& message) override {
    return {.status = status, .body = "{" + message + "}"};
  }
  void log(const AccessLogEntry& record) override { last_status = record.status; }

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
  class SilentStream : public EventStream, Counted {
   public:
    using Counted::Counted;
    void on_ready(std::function<void(bool)>) override {}
    bool made_progress() const override { return false; }
    bool poll(std::string&) override { return true; }
  };
  class CountingStream : public EventStream, Counted {
   public:
    CountingStream(TestHandler& h, int count, std::string more)
        : Counted(h), count_(count), more_(std::move(more)) {}
    void on_ready(std::function<void(bool)>) override {}
    bool made_progress() const override { return true; }
    bool poll(std::string& out) override {
      ++handler.events;
      out += fmt::format("data: {}{}\n\n", at_, more_);
      return ++at_ < count_;
    }

   private:
    int at_ = 0, count_;
    std::string more_;
  };
};

bool eventually(const std::function<bool()>& condition) {
  for (const auto until = Clock::now() + kMaxWait; Clock::now() < until;) {
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

  TestHandler handler_;
  std::optional<HttpServer> server_;
};

TEST_F(HttpServerTest, AnswersSeveralRequestsOnOneConnection) {
  start();
  Socket socket = client();
  EXPECT_THAT(socket.get("/text"), StartsWith("HTTP/1.1 200"));
  socket.send("POST /post HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello");
  EXPECT_THAT(socket.read_until("}"), HasSubstr("{POST hello}"));
  // Two at once: answered in order.
  socket.send("GET /text HTTP/1.1\r\n\r\nPOST /post HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi");
  EXPECT_THAT(socket.read_until("{POST hi}"),
              testing::AllOf(HasSubstr("{GET }"), HasSubstr("{POST hi}")));
  EXPECT_TRUE(eventually([&] { return handler_.leases == 0; }));
}

TEST_F(HttpServerTest, ARequestThatComesWhileAnotherIsInWorkIsAnsweredNext) {
  start();
  Socket socket = client();
  socket.send("GET /slow HTTP/1.1\r\n\r\n");
  std::this_thread::sleep_for(20ms);
  socket.send("GET /slow HTTP/1.1\r\n\r\nPOST /post HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi");
  EXPECT_THAT(socket.read_until("{POST hi}"), HasSubstr("{POST hi}"));
}

TEST_F(HttpServerTest, ASilentStreamSaysThatItIsAlive) {
  start([](HttpOptions& options) { options.sse_ping_interval = 20ms; });
  Socket socket = client();
  socket.send("GET /silence HTTP/1.1\r\n\r\n");
  EXPECT_THAT(socket.read_until(": in work\n\n"), HasSubstr(": in work\n\n"));
  EXPECT_THAT(socket.read_until(": in work\n\n"), HasSubstr(": in work\n\n"));
  EXPECT_EQ(handler_.pending, 1);
  socket.close();
  EXPECT_TRUE(eventually([&] { return handler_.pending == 0; }));
}

TEST_F(HttpServerTest, HeadHasNoBody) {
  start();
  Socket socket = client();
  socket.send("HEAD /text HTTP/1.1\r\nconnection: close\r\n\r\n");
  const std::string all = socket.read_all();
  EXPECT_THAT(all, HasSubstr("Content-Length: 6"));
  EXPECT_TRUE(all.ends_with("\r\n\r\n")) << all;
}

TEST_F(HttpServerTest, StreamsEvents) {
  start();
  Socket socket = client();
  socket.send("GET /count HTTP/1.1\r\n\r\n");
  const std::string all = socket.read_until("\r\n0\r\n\r\n");
  EXPECT_THAT(all, HasSubstr("text/event-stream"));
  for (const char* event : {"data: 0\n\n", "data: 1\n\n", "data: 2\n\n"})
    EXPECT_THAT(all, HasSubstr(event));
  EXPECT_THAT(socket.get("/text"), StartsWith("HTTP/1.1 200"));  // and the connection goes on
}

TEST_F(HttpServerTest, Http10GetsEventsWithoutChunks) {
  start();
  Socket socket = client();
  socket.send("GET /count HTTP/1.0\r\n\r\n");
  EXPECT_THAT(socket.read_all(), testing::EndsWith("\r\n\r\ndata: 0\n\ndata: 1\n\ndata: 2\n\n"));
}

TEST_F(HttpServerTest, RefusesWhatIsTooLargeOrNoHttp) {
  start([](HttpOptions& o) {
    o.max_header_bytes = 1024;
    o.max_body_bytes = 100;
  });
  const auto answer = [&](const std::string& request) {
    Socket socket = client();
    socket.send(request);
    return socket.read_all();
  };
  EXPECT_THAT(answer("GET / HTTP/1.1\r\nx: " + std::string(5000, 'x') + "\r\n\r\n"),
              StartsWith("HTTP/1.1 431"));
  EXPECT_THAT(answer("POST / HTTP/1.1\r\ncontent-length: 101\r\n\r\n"), StartsWith("HTTP/1.1 413"));
  EXPECT_THAT(answer("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n80\r\n" +
                     std::string(128, 'x') + "\r\n0\r\n\r\n"),
              StartsWith("HTTP/1.1 413"));
  EXPECT_THAT(answer("nonsense\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(
      answer("POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
      StartsWith("HTTP/1.1 400"));
  // A large body that nobody reads does not keep the client from learning why.
  EXPECT_THAT(answer("POST /refused HTTP/1.1\r\ncontent-length: 90\r\n\r\n" + std::string(90, 'x')),
              StartsWith("HTTP/1.1 401"));
  EXPECT_TRUE(eventually([&] { return server_->connection_count() == 0; }));
  EXPECT_EQ(handler_.leases, 0);
}

TEST_F(HttpServerTest, ADefectIsA500AndTheServerGoesOn) {
  start();
  Socket socket = client();
  EXPECT_THAT(socket.get("/defect"), StartsWith("HTTP/1.1 500"));
  EXPECT_THAT(socket.get("/text"), StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpServerTest, SlowSendersAreDropped) {
  start([](HttpOptions& o) { o.idle_timeout = o.header_timeout = o.body_timeout = 200ms; });
  Socket idle = client(), header = client(), body = client();
  header.send("GET / HT");
  body.send("POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nxx");
  EXPECT_EQ(idle.read_all() + header.read_all() + body.read_all(), "");
  EXPECT_TRUE(eventually([&] { return server_->connection_count() == 0; }));
  EXPECT_EQ(handler_.leases, 0);
}

TEST_F(HttpServerTest, AVanishedClientLetsGoOfItsAnswer) {
  start();
  for (const char* path : {"/wait", "/flood"}) {
    Socket socket = client();
    socket.send(fmt::format("GET {} HTTP/1.1\r\n\r\n", path));
    EXPECT_TRUE(eventually([&] { return handler_.pending == 1; })) << path;
    socket.close();
    EXPECT_TRUE(eventually([&] { return handler_.pending == 0 && handler_.leases == 0; })) << path;
  }
  EXPECT_TRUE(eventually([&] { return handler_.last_status == 499; }));
}

TEST_F(HttpServerTest, AReaderThatStallsMakesNothingGrowAndIsDropped) {
  start([](HttpOptions& o) { o.write_timeout = 400ms; });
  Socket socket = client();
  socket.send("GET /flood HTTP/1.1\r\n\r\n");
  EXPECT_TRUE(eventually([&] { return handler_.events > 0 && handler_.pending == 0; }));
  EXPECT_LT(handler_.events, 1000);  // 64 kB each: what sockets hold, no more
}

TEST_F(HttpServerTest, MoreConnectionsThanAllowedAreTurnedAway) {
  start([](HttpOptions& o) { o.max_connections = 2; });
  Socket first = client(), second = client();
  EXPECT_TRUE(eventually([&] { return server_->connection_count() == 2; }));
  Socket third = client();
  EXPECT_THAT(third.read_all(), StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(first.get("/text"), StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpServerTest, DrainingEndsIdleConnectionsAndWaitsForAnswers) {
  start();
  Socket idle = client(), busy = client();
  EXPECT_THAT(idle.get("/text"), StartsWith("HTTP/1.1 200"));
  busy.send("GET /wait HTTP/1.1\r\n\r\n");
  EXPECT_TRUE(eventually([&] { return handler_.pending == 1; }));
  server_->stop_accepting();
  EXPECT_EQ(idle.read_all(), "");
  EXPECT_FALSE(server_->wait_until_drained(Clock::now() + 100ms));
  busy.close();
  EXPECT_TRUE(server_->wait_until_drained(Clock::now() + kMaxWait));
}

TEST_F(HttpServerTest, CanBeTakenDownWithAnswersInWork) {
  start();
  Socket waits = client(), flood = client();
  waits.send("GET /wait HTTP/1.1\r\n\r\n");
  flood.send("GET /flood HTTP/1.1\r\n\r\n");
  EXPECT_TRUE(eventually([&] { return handler_.pending == 2; }));
  server_.reset();
  EXPECT_EQ(handler_.pending, 0);
}

TEST_F(HttpServerTest, BrowsersOfOtherOriginsAreNotLetIn) {
  start();
  Socket socket = client();
  socket.send("GET /text HTTP/1.1\r\norigin: https://a.example\r\n\r\n");
  EXPECT_THAT(socket.read_until("}"), testing::Not(HasSubstr("Access-Control")));
  server_.reset();
  start([](HttpOptions& o) { o.cors_origin = "https://a.example"; });
  Socket allowed = client();
  allowed.send("GET /text HTTP/1.1\r\norigin: https://a.example\r\n\r\n");
  EXPECT_THAT(allowed.read_until("}"), HasSubstr("Access-Control-Allow-Origin: https://a.example"));
}

TEST_F(HttpServerTest, AnAddressThatCannotBeUsedIsNamed) {
  start();
  EXPECT_THAT(message_of([&] { HttpServer second(handler_, {.port = server_->port()}); }),
              HasSubstr("choose another with --host and --port"));
  EXPECT_THAT(message_of([&] { HttpServer bad(handler_, {.host = "nowhere", .port = 0}); }),
              HasSubstr("'nowhere' is no address"));
  EXPECT_THAT(message_of([&] {
                HttpServer bad(handler_, {.port = 0, .tls_certificate = "a.pem", .tls_key = "b"});
              }),
              StartsWith("a.pem: "));
}

}  // namespace
}  // namespace mxgpt::server
