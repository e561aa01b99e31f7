// The HTTP transport against a scripted handler, over plain sockets: request errors, disconnects,
// shutdown.
#include "server/http/http_server.h"

#include "server/http/http_fixture.h"
#include "support/message_of.h"

namespace mxgpt::server {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using Clock = std::chrono::steady_clock;

TEST_F(HttpServerTest, AnswersSeveralRequestsOnOneConnection) {
  start();
  Socket socket = client();
  EXPECT_THAT(socket.get("/text"), StartsWith("HTTP/1.1 200"));
  socket.send("POST /post HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello");
  EXPECT_THAT(socket.read_until("}"), HasSubstr("{POST hello}"));
  // Pipelined requests are answered in order.
  socket.send("GET /text HTTP/1.1\r\n\r\nPOST /post HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi");
  EXPECT_THAT(socket.read_until("{POST hi}"),
              testing::AllOf(HasSubstr("{GET }"), HasSubstr("{POST hi}")));
  EXPECT_TRUE(eventually([&] { return handler_.leases == 0; }));
}

TEST_F(HttpServerTest, ARequestSentDuringAnotherIsAnsweredNext) {
  start();
  Socket socket = client();
  socket.send("GET /slow HTTP/1.1\r\n\r\n");
  std::this_thread::sleep_for(20ms);
  socket.send("GET /slow HTTP/1.1\r\n\r\nPOST /post HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi");
  EXPECT_THAT(socket.read_until("{POST hi}"), HasSubstr("{POST hi}"));
}

TEST_F(HttpServerTest, ASilentStreamSendsKeepAliveComments) {
  start([](HttpOptions& options) { options.sse_ping_interval = 20ms; });
  Socket socket = client();
  socket.send("GET /silence HTTP/1.1\r\n\r\n");
  EXPECT_THAT(socket.read_until(": keep-alive\n\n"), HasSubstr(": keep-alive\n\n"));
  EXPECT_THAT(socket.read_until(": keep-alive\n\n"), HasSubstr(": keep-alive\n\n"));
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
  EXPECT_THAT(socket.get("/text"), StartsWith("HTTP/1.1 200"));  // the connection stays open
}

TEST_F(HttpServerTest, Http10GetsEventsWithoutChunks) {
  start();
  Socket socket = client();
  socket.send("GET /count HTTP/1.0\r\n\r\n");
  EXPECT_THAT(socket.read_all(), testing::EndsWith("\r\n\r\ndata: 0\n\ndata: 1\n\ndata: 2\n\n"));
}

TEST_F(HttpServerTest, RefusesOversizedAndMalformedRequests) {
  start([](HttpOptions& o) {
    o.max_header_bytes = 1024;
    o.max_body_bytes = 100;
  });
  EXPECT_THAT(exchange("GET / HTTP/1.1\r\nx: " + std::string(5000, 'x') + "\r\n\r\n"),
              StartsWith("HTTP/1.1 431"));
  EXPECT_THAT(exchange("POST / HTTP/1.1\r\ncontent-length: 101\r\n\r\n"),
              StartsWith("HTTP/1.1 413"));
  EXPECT_THAT(exchange("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n80\r\n" +
                       std::string(128, 'x') + "\r\n0\r\n\r\n"),
              StartsWith("HTTP/1.1 413"));
  EXPECT_THAT(exchange("nonsense\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(
      exchange(
          "POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
      StartsWith("HTTP/1.1 400"));
  // An unread body does not keep the client from reading the response.
  EXPECT_THAT(
      exchange("POST /refused HTTP/1.1\r\ncontent-length: 90\r\n\r\n" + std::string(90, 'x')),
      StartsWith("HTTP/1.1 401"));
  EXPECT_TRUE(eventually([&] { return server_->connection_count() == 0; }));
  EXPECT_EQ(handler_.leases, 0);
}

TEST_F(HttpServerTest, AnExceptionInTheHandlerIsA500) {
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

TEST_F(HttpServerTest, ADisconnectCancelsTheResponse) {
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

TEST_F(HttpServerTest, AStalledReaderIsDroppedAndNothingGrows) {
  start([](HttpOptions& o) { o.write_timeout = 400ms; });
  Socket socket = client();
  socket.send("GET /flood HTTP/1.1\r\n\r\n");
  EXPECT_TRUE(eventually([&] { return handler_.events > 0 && handler_.pending == 0; }));
  EXPECT_LT(handler_.events, 1000);  // of 64 kB each: only socket buffers fill
}

TEST_F(HttpServerTest, ConnectionsAboveTheLimitGetA503) {
  start([](HttpOptions& o) { o.max_connections = 2; });
  Socket first = client(), second = client();
  EXPECT_TRUE(eventually([&] { return server_->connection_count() == 2; }));
  Socket third = client();
  EXPECT_THAT(third.read_all(), StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(first.get("/text"), StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpServerTest, DrainingClosesIdleConnectionsAndWaitsForResponses) {
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

TEST_F(HttpServerTest, CanBeDestroyedWithActiveResponses) {
  start();
  Socket waits = client(), flood = client();
  waits.send("GET /wait HTTP/1.1\r\n\r\n");
  flood.send("GET /flood HTTP/1.1\r\n\r\n");
  EXPECT_TRUE(eventually([&] { return handler_.pending == 2; }));
  server_.reset();
  EXPECT_EQ(handler_.pending, 0);
}

TEST_F(HttpServerTest, CorsHeadersAreSentToTheAllowedOriginOnly) {
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

TEST_F(HttpServerTest, AnUnusableAddressIsNamed) {
  start();
  EXPECT_THAT(message_of([&] { HttpServer second(handler_, {.port = server_->port()}); }),
              HasSubstr("choose another host or port"));
  EXPECT_THAT(message_of([&] { HttpServer bad(handler_, {.host = "nowhere", .port = 0}); }),
              HasSubstr("'nowhere' is not an IP address"));
  EXPECT_THAT(message_of([&] {
                HttpServer bad(handler_, {.port = 0, .tls_certificate = "a.pem", .tls_key = "b"});
              }),
              StartsWith("a.pem: "));
}

}  // namespace
}  // namespace mxgpt::server
