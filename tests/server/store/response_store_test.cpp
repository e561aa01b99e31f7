// Stored responses: access per client, eviction, persistence.
#include "server/store/response_store.h"

#include <gmock/gmock.h>

#include <atomic>
#include <filesystem>
#include <future>
#include <thread>

#include "base/error.h"
#include "support/message_of.h"

namespace mxgpt::server {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string store_response(ResponseStore& store, const std::string& id,
                           const std::string& previous = "", size_t size = 10,
                           const std::string& client = "ada") {
  std::promise<std::string> done;
  store.put({id, client, previous, "[]", std::string(size, 'x')},
            [&](const std::string& error) { done.set_value(error); });
  return done.get_future().get();
}

std::vector<std::string> ids(const std::vector<StoredResponse>& responses) {
  std::vector<std::string> out;
  for (const StoredResponse& response : responses) out.push_back(response.id);
  return out;
}

class StoreFile : public testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove_all(folder_); }
  const std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) /
      testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST(ResponseStore, ClientsSeeOnlyTheirOwn) {
  ResponseStore store({});
  EXPECT_EQ(store_response(store, "a"), "");
  EXPECT_EQ(store_response(store, "b", "a"), "");
  EXPECT_EQ(store_response(store, "c", "b", 10, "bob"), "");
  EXPECT_EQ(store.get("ada", "b")->previous_id, "a");
  EXPECT_FALSE(store.get("bob", "b"));
  EXPECT_THAT(ids(store.chain("ada", "b")), ElementsAre("a", "b"));
  EXPECT_THAT(ids(store.chain("bob", "c")), ElementsAre("c"));
  EXPECT_THAT(store.chain("bob", "b"), IsEmpty());
  EXPECT_FALSE(store.erase("bob", "a"));
  EXPECT_TRUE(store.erase("ada", "a"));
  EXPECT_FALSE(store.erase("ada", "a"));
  EXPECT_THAT(ids(store.chain("ada", "b")), ElementsAre("b"));
  EXPECT_EQ(store.status().count, 2);
}

TEST(ResponseStore, TheLeastRecentlyUsedAreEvicted) {
  ResponseStore store({.max_count = 3});
  store_response(store, "a");
  store_response(store, "b");
  store_response(store, "c", "a");  // uses a
  store_response(store, "d");
  EXPECT_FALSE(store.get("ada", "b"));
  EXPECT_TRUE(store.get("ada", "a") && store.get("ada", "c") && store.get("ada", "d"));
  EXPECT_EQ(store.status().count, 3);
}

TEST(ResponseStore, BytesAreBounded) {
  ResponseStore store({.max_bytes = 1000});
  for (int i = 0; i < 20; ++i) EXPECT_EQ(store_response(store, std::to_string(i), "", 300), "");
  EXPECT_EQ(store.status().count, 3);
  EXPECT_LE(store.status().bytes, 1000);
  EXPECT_THAT(store_response(store, "large", "", 2000), HasSubstr("exceed the limit of 1000"));
  EXPECT_EQ(store.status().failed, 1);
  EXPECT_EQ(store.status().count, 3);
  EXPECT_TRUE(store.get("ada", "19"));
  EXPECT_EQ(store_response(store, "small"), "");
  EXPECT_EQ(store.status().last_error, "");
}

TEST(ResponseStore, AnIdIsStoredOnce) {
  ResponseStore store({});
  EXPECT_EQ(store_response(store, "a"), "");
  EXPECT_THAT(store_response(store, "a"), HasSubstr("UNIQUE"));
  EXPECT_EQ(store.status().count, 1);
}

TEST_F(StoreFile, OutlivesTheServer) {
  std::filesystem::create_directories(folder_);
  const StoreOptions options{.file = folder_ / "responses.db"};
  {
    ResponseStore store(options);
    store_response(store, "a");
    store.put({"b", "ada", "a", "[]", "{}"},
              [](const std::string&) {});  // written before the store closes
    EXPECT_THAT(message_of([&] { ResponseStore second(options); }), HasSubstr("locked"));
  }
  ResponseStore store(options);
  EXPECT_THAT(ids(store.chain("ada", "b")), ElementsAre("a", "b"));
  EXPECT_EQ(store.status().count, 2);
  EXPECT_GT(store.status().bytes, 10);
}

TEST(ResponseStore, ConcurrentUse) {
  ResponseStore store({.max_count = 50});
  std::atomic<int> done = 0;
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 100; ++i) {
        const std::string id = std::to_string(t * 1000 + i);
        store.put({id, "ada", "", "[]", "{}"}, [&](const std::string&) { ++done; });
        store.get("ada", id);
        store.status();
        if (i % 10 == 0) store.erase("ada", id);
      }
    });
  }
  threads.clear();
  while (done < 400) std::this_thread::yield();
  EXPECT_EQ(store.status().count, 50);
}

}  // namespace
}  // namespace mxgpt::server
