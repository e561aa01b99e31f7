#include "server/http/request_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/beast/http/basic_parser.hpp>
#include <new>
#include <utility>

namespace mxgpt::server {

namespace http = boost::beast::http;
using boost::beast::string_view;
using boost::system::error_code;

namespace {

std::string lower_case(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), [](unsigned char c) {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  });
  return out;
}

std::string_view std_view(string_view text) {
  return {text.data(), text.size()};
}

}  // namespace

/// Beast's parser without its containers: fields go straight to the head, the body to a string.
class RequestParser::Impl : public http::basic_parser<true> {
 public:
  Impl(size_t max_header_bytes, BodyBudget& budget)
      : share(std::in_place, budget), max_header_bytes_(max_header_bytes) {
    header_limit(static_cast<uint32_t>(max_header_bytes));
    body_limit(boost::none);  // checked here: the limit depends on the headers
  }

  size_t parse(std::string_view bytes) {
    error_code error;
    size_t count = 0;
    try {
      count = put(boost::asio::const_buffer(bytes.data(), bytes.size()), error);
    } catch (const std::bad_alloc&) {
      fail(503, "the server is out of memory");
      return 0;
    }
    if (!is_header_done() || !header_checked_) check_header(bytes.size(), count, error);
    if (error && error != http::error::need_more) fail(error);
    return count;
  }

  void accept_body(size_t max_bytes) {
    max_body_bytes_ = max_bytes;
    eager(true);
    const auto length = content_length();
    if (length && *length > max_bytes) fail_body_size();
  }

  void fail(int status, std::string message) {
    if (!failure) failure = Failure{status, std::move(message)};
  }

  HttpRequestHead head;
  bool is_head_method = false, is_http10 = false, expects_continue = false;
  std::optional<Failure> failure;
  std::string body;
  std::optional<BodyBudget::Share> share;

 private:
  void check_header(size_t available, size_t consumed, error_code& error) {
    header_bytes_ += consumed;
    const size_t pending = is_header_done() ? 0 : available - consumed;
    if (header_bytes_ + pending > max_header_bytes_) error = http::error::header_limit;
    header_checked_ = is_header_done();
  }

  void fail(const error_code& error) {
    if (error == http::error::header_limit)
      return fail(431, fmt::format("request headers exceed {} bytes", max_header_bytes_));
    fail(400, "malformed HTTP request: " + error.message());
  }

  void fail_body_size() {
    fail(413, max_body_bytes_ == 0 ? std::string("this route takes no request body")
                                   : fmt::format("request body exceeds {} bytes", max_body_bytes_));
  }

  void on_request_impl(http::verb, string_view method, string_view target, int version,
                       error_code&) override {
    is_head_method = std_view(method) == "HEAD";
    is_http10 = version < 11;
    head.method = is_head_method ? "GET" : std::string(std_view(method));
    const std::string_view path = std_view(target);
    const size_t end = std::min(path.find('?'), path.size());
    head.path = path.substr(0, end);
    head.query = path.substr(std::min(end + 1, path.size()));
  }

  void on_field_impl(http::field name, string_view name_string, string_view value,
                     error_code& error) override {
    if (is_header_done()) return;  // trailers are ignored
    if (name == http::field::transfer_encoding &&
        (is_http10 || lower_case(std_view(value)) != "chunked")) {
      fail(501, "unsupported Transfer-Encoding: only 'chunked' in HTTP/1.1 is accepted");
      error = http::error::bad_transfer_encoding;
    }
    if (name == http::field::expect && lower_case(std_view(value)) == "100-continue")
      expects_continue = true;
    head.headers.emplace_back(lower_case(std_view(name_string)), std::string(std_view(value)));
  }

  void on_header_impl(error_code&) override {}
  void on_body_init_impl(const boost::optional<uint64_t>&, error_code&) override {}
  size_t on_body_impl(string_view part, error_code& error) override { return append(part, error); }
  size_t on_chunk_body_impl(uint64_t, string_view part, error_code& error) override {
    return append(part, error);
  }
  void on_chunk_header_impl(uint64_t size, string_view extensions, error_code& error) override {
    if (extensions.size() > kMaxChunkExtensionBytes) {
      fail(400, fmt::format("chunk extension exceeds {} bytes", kMaxChunkExtensionBytes));
      error = http::error::bad_chunk_extension;
    } else if (size > max_body_bytes_ - body.size()) {
      fail_body_size();
      error = http::error::body_limit;
    }
  }
  void on_finish_impl(error_code&) override {}
  void on_response_impl(int, string_view, int, error_code&) override {}

  size_t append(string_view part, error_code& error) {
    const size_t grown = body.size() + part.size();
    if (grown > body.capacity()) {
      const size_t limit =
          std::min<uint64_t>(content_length().value_or(max_body_bytes_), max_body_bytes_);
      const size_t capacity = std::min(std::max(2 * body.capacity(), grown), limit);
      if (!share->add(capacity - body.capacity())) {
        fail(503, "the server is receiving too many request bodies; retry later");
        error = http::error::buffer_overflow;
        return 0;
      }
      body.reserve(capacity);
    }
    body.append(part.data(), part.size());
    return part.size();
  }

  const size_t max_header_bytes_;
  size_t header_bytes_ = 0;
  bool header_checked_ = false;
  size_t max_body_bytes_ = 0;
};

RequestParser::RequestParser(size_t max_header_bytes, BodyBudget& budget)
    : impl_(std::make_unique<Impl>(max_header_bytes, budget)) {}

RequestParser::~RequestParser() = default;

size_t RequestParser::parse(std::string_view bytes) {
  return impl_->parse(bytes);
}

void RequestParser::accept_body(size_t max_bytes) {
  impl_->accept_body(max_bytes);
}

bool RequestParser::has_header() const {
  return impl_->is_header_done();
}

bool RequestParser::is_complete() const {
  return impl_->is_done();
}

const std::optional<RequestParser::Failure>& RequestParser::failure() const {
  return impl_->failure;
}

HttpRequestHead& RequestParser::head() {
  return impl_->head;
}

bool RequestParser::is_head_method() const {
  return impl_->is_head_method;
}

bool RequestParser::is_http10() const {
  return impl_->is_http10;
}

bool RequestParser::keep_alive() const {
  return impl_->keep_alive();
}

bool RequestParser::has_body() const {
  return !impl_->is_done();
}

bool RequestParser::expects_continue() const {
  return impl_->expects_continue;
}

std::string RequestParser::take_body() {
  return std::move(impl_->body);
}

void RequestParser::release_body_budget() {
  impl_->share.reset();
}

void RequestParser::fail(int status, std::string message) {
  impl_->fail(status, std::move(message));
}

}  // namespace mxgpt::server
