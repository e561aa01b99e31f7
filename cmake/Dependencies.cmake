# Every library mxgpt builds on, in one place: Debian 12's package, the oldest version known to work,
# and why it is here. scripts/setup.sh installs the packages, and fetches the one that Debian lacks; nothing is
# downloaded while building.
find_package(fmt 9 REQUIRED)                       # libfmt-dev: std::format is missing from g++ 12
find_package(spdlog 1.10 REQUIRED)                 # libspdlog-dev: logging to stderr
find_package(CLI11 2.1 REQUIRED)                   # libcli11-dev: the command line
find_package(Boost 1.81 REQUIRED COMPONENTS json)  # libboost-json1.81-dev: JSON with a depth limit; it brings
                                                   # libboost1.81-dev: HTTP by Beast and Asio
find_package(Threads REQUIRED)                      # part of libc
find_package(OpenSSL 3 REQUIRED COMPONENTS Crypto SSL) # libssl-dev: SHA-256 for provenance; TLS
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8>=10.42)  # libpcre2-dev: tokenizer regexes, JIT
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)     # libutf8proc-dev 2.8: Unicode normal forms
pkg_check_modules(SQLITE3 REQUIRED IMPORTED_TARGET sqlite3>=3.35)    # libsqlite3-dev: responses that outlive the server
include(XGrammar)                                  # its source package: structured output
if(MXGPT_TESTS)
  find_package(GTest 1.12 REQUIRED)                # libgtest-dev
endif()
if(MXGPT_BENCH)
  find_package(benchmark 1.7 REQUIRED)             # libbenchmark-dev
endif()
