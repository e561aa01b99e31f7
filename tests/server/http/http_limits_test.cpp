// Limits on memory that clients can claim, against hostile clients.
#include <fstream>
#include <vector>

#include "server/http/http_fixture.h"

namespace mxgpt::server {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr std::string_view kChunked = "POST /post HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";

int64_t resident_bytes() {
  std::ifstream pages("/proc/self/statm");
  int64_t all = 0, resident = 0;
  pages >> all >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

/// Bound on the growth of the resident set by a refused flood. AddressSanitizer keeps freed memory
/// for a while.
#ifdef __SANITIZE_ADDRESS__
constexpr int64_t kMaxGrowth = 32 << 20;
#else
constexpr int64_t kMaxGrowth = 8 << 20;
#endif

class HttpLimitsTest : public HttpServerTest {
 protected:
  /// Sends `prefix`, then `block` until the server closes the connection, at most 64 MB. Expects
  /// that it does, that memory stays bounded and that others are served.
  void expect_flood_refused(std::string_view prefix, std::string_view unit) {
    std::string block;
    while (block.size() < 1 << 16) block += unit;
    const int64_t before = resident_bytes();
    Socket socket = client();
    EXPECT_TRUE(socket.send(prefix));
    size_t sent = 0;
    while (sent < 64 << 20 && socket.send(block)) sent += block.size();
    EXPECT_LT(sent, 64 << 20) << "accepted without end";
    EXPECT_LT(resident_bytes() - before, kMaxGrowth);
    EXPECT_THAT(client().get("/text"), StartsWith("HTTP/1.1 200"));
    socket.close();
    EXPECT_TRUE(eventually([&] { return handler_.leases == 0; }));
  }
};

TEST_F(HttpLimitsTest, AnEndlessChunkExtensionIsRefused) {
  start();
  expect_flood_refused(std::string(kChunked) + "5;", "a");
}

TEST_F(HttpLimitsTest, EndlessTrailersAreRefused) {
  start();
  expect_flood_refused(std::string(kChunked) + "0\r\nx: ", "a");
}

TEST_F(HttpLimitsTest, ManyShortTrailersAreRefused) {
  start();
  expect_flood_refused(std::string(kChunked) + "0\r\n", "a: b\r\n");
}

TEST_F(HttpLimitsTest, AnEndlessChunkSizeIsRefused) {
  start();
  expect_flood_refused(std::string(kChunked), "0");
}

TEST_F(HttpLimitsTest, AnEndlessRequestLineIsRefused) {
  start();
  expect_flood_refused("GET /", "a");
}

TEST_F(HttpLimitsTest, ChunkExtensionsAndTrailersWithinTheirLimitsAreIgnored) {
  start();
  Socket socket = client();
  socket.send(std::string(kChunked) + "2;a=" + std::string(900, 'b') +
              "\r\nhi\r\n0;c\r\nx: y\r\nhost: z\r\n\r\n");
  EXPECT_THAT(socket.read_until("}"), HasSubstr("{POST hi}"));
  EXPECT_THAT(socket.get("/text"), StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpLimitsTest, RefusalsNameTheLimit) {
  start();
  EXPECT_THAT(exchange(std::string(kChunked) + "2;" + std::string(2000, 'a') + "\r\nhi\r\n"),
              testing::AllOf(StartsWith("HTTP/1.1 400"), HasSubstr("exceeds 1024 bytes")));
  EXPECT_THAT(exchange(std::string(kChunked) + "0\r\nx: " + std::string(60000, 'a')),
              testing::AllOf(StartsWith("HTTP/1.1 400"), HasSubstr("trailer section exceeds")));
  // In one packet, and far above the limit.
  EXPECT_THAT(exchange("GET /text HTTP/1.1\r\nx: " + std::string(30000, 'a') + "\r\n\r\n"),
              StartsWith("HTTP/1.1 431"));
}

TEST_F(HttpLimitsTest, BytesSentDuringARequestAreBounded) {
  start();
  Socket socket = client();
  socket.send("GET /wait HTTP/1.1\r\n\r\n");
  EXPECT_TRUE(eventually([&] { return handler_.pending == 1; }));
  const int64_t before = resident_bytes();
  const std::string block(1 << 16, 'G');
  for (int i = 0; i < 1000 && socket.send_some(block); ++i) std::this_thread::sleep_for(1ms);
  EXPECT_LT(resident_bytes() - before, kMaxGrowth);
  socket.close();
}

TEST_F(HttpLimitsTest, ADisconnectIsNoticedBehindPipelinedBytes) {
  start();
  Socket socket = client();
  socket.send("GET /wait HTTP/1.1\r\n\r\nG");
  EXPECT_TRUE(eventually([&] { return handler_.pending == 1; }));
  socket.close();
  EXPECT_TRUE(eventually([&] { return handler_.pending == 0; }));
}

TEST_F(HttpLimitsTest, RoutesWithoutABodyAcceptNone) {
  start();
  EXPECT_THAT(exchange("GET /no-body HTTP/1.1\r\ncontent-length: 16777216\r\n\r\n"),
              testing::AllOf(StartsWith("HTTP/1.1 413"), HasSubstr("takes no request body")));
  EXPECT_THAT(exchange("GET /no-body HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na"),
              StartsWith("HTTP/1.1 413"));
  EXPECT_THAT(exchange("DELETE /no-body HTTP/1.1\r\nexpect: 100-continue\r\n"
                       "content-length: 1\r\n\r\n"),
              StartsWith("HTTP/1.1 413"));
  Socket socket = client();
  socket.send("GET /no-body HTTP/1.1\r\ncontent-length: 0\r\n\r\n");
  EXPECT_THAT(socket.read_until("}"), StartsWith("HTTP/1.1 200"));
  socket.send("GET /no-body HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n");
  EXPECT_THAT(socket.read_until("}"), StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpLimitsTest, AllBodiesShareABudget) {
  start([](HttpOptions& o) { o.max_total_body_bytes = 1 << 20; });
  const std::string header = "POST /post HTTP/1.1\r\ncontent-length: 900000\r\n\r\n";
  Socket first = client();
  first.send(header + std::string(800000, 'a'));
  ASSERT_TRUE(eventually([&] { return server_->body_bytes() >= 800000; }));
  EXPECT_THAT(exchange(header + std::string(400000, 'a')),
              testing::AllOf(StartsWith("HTTP/1.1 503"), HasSubstr("retry-after: 1")));
  // Announced bytes claim nothing until they arrive.
  std::vector<Socket> announced;
  for (int i = 0; i < 20; ++i) {
    announced.push_back(client());
    announced.back().send(header);
  }
  Socket small = client();
  small.send("POST /post HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi");
  EXPECT_THAT(small.read_until("}"), HasSubstr("{POST hi}"));
  // A disconnect returns its share, as does a completed request.
  first.close();
  ASSERT_TRUE(eventually([&] { return server_->body_bytes() == 0; }));
  for (int i = 0; i < 3; ++i) {
    Socket socket = client();
    socket.send(header + std::string(900000, 'a'));
    EXPECT_THAT(socket.read_until("}"), StartsWith("HTTP/1.1 200"));
    EXPECT_EQ(server_->body_bytes(), 0);
  }
}

TEST_F(HttpLimitsTest, AChunkedBodyOfUnknownSizeUsesTheBudget) {
  start([](HttpOptions& o) { o.max_total_body_bytes = 1 << 20; });
  std::string chunks(kChunked);
  for (int i = 0; i < 40; ++i) chunks += "10000\r\n" + std::string(0x10000, 'a') + "\r\n";
  EXPECT_THAT(exchange(chunks), StartsWith("HTTP/1.1 503"));
}

TEST_F(HttpLimitsTest, AFailedAllocationEndsOneRequest) {
  start();
  Socket socket = client();
  EXPECT_THAT(socket.get("/memory"), StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(socket.get("/text"), StartsWith("HTTP/1.1 200"));
  for (const char* path : {"/memory-io", "/memory-admit"}) {
    EXPECT_EQ(exchange(fmt::format("GET {} HTTP/1.1\r\n\r\n", path)), "") << path;
    EXPECT_TRUE(eventually([&] { return handler_.pending == 0 && handler_.leases == 0; })) << path;
  }
  EXPECT_THAT(socket.get("/text"), StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpLimitsTest, TransferEncodingsOtherThanChunkedAreRefused) {
  start();
  for (const char* encoding : {"xchunked", "gzip, chunked", "identity", "chunked, gzip"}) {
    const std::string answer =
        exchange(fmt::format("POST /post HTTP/1.1\r\ntransfer-encoding: {}\r\n\r\n"
                             "smuggled /x HTTP/1.1\r\n\r\n",
                             encoding));
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 501")) << encoding;
    EXPECT_THAT(answer, testing::Not(HasSubstr("smuggled"))) << encoding;
  }
  EXPECT_THAT(exchange("POST /post HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
              StartsWith("HTTP/1.0 501"));
}

}  // namespace
}  // namespace mxgpt::server
