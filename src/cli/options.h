// Command-line options. The rest of cli/ declares its options through this facade: options.cpp
// alone includes the argument parser (CLI11), whose headers take seconds to compile.
#pragma once

#include <fmt/format.h>

#include <charconv>
#include <concepts>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace mxgpt::cli {

/// A declared option, for chained refinement. Valid as long as its CommandOptions.
class Option {
 public:
  Option& metavar(const std::string& name);  ///< shown after the option in --help: "N", "FILE"
  Option& group(const std::string& heading);
  Option& default_text(const std::string& text);  ///< shown in --help
  Option& required();
  Option& excludes(const Option& other);
  Option& needs(const Option& other);
  Option& hidden();  ///< accepted, but not shown in --help

 private:
  friend class CommandOptions;
  explicit Option(CLI::Option* option) : option_(option) {}

  CLI::Option* option_;
};

/// Named values of an enumeration, in the order that --help shows.
template <class T>
using Choices = std::vector<std::pair<std::string_view, T>>;

/// The options of one command. Names are "-m,--model" or, for a positional argument, "source";
/// names after a bar are accepted but not shown: "--reasoning-effort|--effort". Values are stored
/// when the command line is parsed. A bad value ends the program with one sentence and exit code 2.
class CommandOptions {
 public:
  explicit CommandOptions(CLI::App* app) : app_(app) {}

  Option flag(const std::string& names, bool& value, const std::string& help);
  /// Sets `value` to `set_to` if the flag is given.
  Option flag(const std::string& names, bool& value, bool set_to, const std::string& help);
  Option text(const std::string& names, std::string& value, const std::string& help);
  Option text(const std::string& names, std::optional<std::string>& value, const std::string& help);
  /// May be given several times; each time adds one value.
  Option texts(const std::string& names, std::vector<std::string>& values, const std::string& help);
  Option path(const std::string& names, std::filesystem::path& value, const std::string& help);
  Option number(const std::string& names, double& value, const std::string& help);
  Option number(const std::string& names, std::optional<double>& value, double min, double max,
                const std::string& help);
  /// An amount of memory: "24GiB", "12.5 GB", "1000000".
  Option bytes(const std::string& names, int64_t& value, const std::string& help);
  Option bytes(const std::string& names, std::optional<uint64_t>& value, const std::string& help);

  /// An integer from `min` to `max`.
  template <std::integral T>
  Option integer(const std::string& names, T& value, std::type_identity_t<T> min,
                 std::type_identity_t<T> max, const std::string& help) {
    return add(names, help, [=, &value](std::string_view text) { value = parse(text, min, max); })
        .metavar("N");
  }
  template <std::integral T>
  Option integer(const std::string& names, std::optional<T>& value, std::type_identity_t<T> min,
                 std::type_identity_t<T> max, const std::string& help) {
    return add(names, help, [=, &value](std::string_view text) { value = parse(text, min, max); })
        .metavar("N");
  }
  /// Integers separated by commas; they replace the defaults.
  template <std::integral T>
  Option integers(const std::string& names, std::vector<T>& values, std::type_identity_t<T> min,
                  std::type_identity_t<T> max, const std::string& help) {
    const auto store = [=, &values](std::string_view text) {
      values.clear();
      for_each_item(text, [&](std::string_view item) { values.push_back(parse(item, min, max)); });
    };
    return add(names, help, store).metavar("N,…");
  }
  /// A positional list of integers.
  template <std::integral T>
  Option positional_integers(const std::string& name, std::vector<T>& values,
                             const std::string& help) {
    const auto store = [&values](std::string_view text) {
      values.push_back(parse(text, T{0}, std::numeric_limits<T>::max()));
    };
    return add(name, help, store, Arity::any);
  }

  /// One of `choices`, in any case.
  template <class T, class Value>
  Option choice(const std::string& names, Value& value, const Choices<T>& choices,
                const std::string& help) {
    const auto store = [choices, &value](std::string_view text) {
      value = choices[find_choice(text, names_of(choices))].second;
    };
    return add(names, help, store).metavar(joined(names_of(choices)));
  }
  /// Several of `choices`, separated by commas.
  template <class T>
  Option choices(const std::string& names, std::vector<T>& values, const Choices<T>& choices,
                 const std::string& help) {
    const auto store = [choices, &values](std::string_view text) {
      values.clear();
      for_each_item(text, [&](std::string_view item) {
        values.push_back(choices[find_choice(item, names_of(choices))].second);
      });
    };
    return add(names, help, store).metavar(joined(names_of(choices)) + ",…");
  }
  /// One of `values`.
  Option name(const std::string& names, std::string& value, const std::vector<std::string>& values,
              const std::string& help);

  /// Declares a command of the command; exactly one must then be given.
  CommandOptions subcommand(const std::string& name, const std::string& summary,
                            std::function<void()> selected);
  /// Text below the options in --help.
  void footer(const std::string& text);

  /// First option of a group that was given on the command line, such as "--system"; empty if none.
  std::string first_given(std::string_view group) const;

 private:
  enum class Arity { once, repeated, any };
  using Store = std::function<void(std::string_view text)>;

  Option add(const std::string& names, const std::string& help, Store store,
             Arity arity = Arity::once);
  /// Declares an option, and hides the names after the bar.
  Option declare(const std::string& names,
                 const std::function<CLI::Option*(const std::string& all_names)>& add_option);

  static void for_each_item(std::string_view list, const Store& store);
  static size_t find_choice(std::string_view text, const std::vector<std::string_view>& names);
  static std::string joined(const std::vector<std::string_view>& names);
  /// Ends parsing: "'x' is not an integer from 1 to 64".
  [[noreturn]] static void fail_integer(std::string_view text, const std::string& min,
                                        const std::string& max);

  template <class T>
  static std::vector<std::string_view> names_of(const Choices<T>& choices) {
    std::vector<std::string_view> names;
    for (const auto& [name, value] : choices) names.push_back(name);
    return names;
  }
  template <class T>
  static T parse(std::string_view text, T min, T max) {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < min || value > max)
      fail_integer(text, fmt::format("{}", min), fmt::format("{}", max));
    return value;
  }

  CLI::App* app_;
};

struct Command;

/// The option that sets a field of the library's Error::where, such as "--ctx" for
/// field::kContextLength; `where` itself if it is none of them.
std::string option_of_field(const std::string& where);

/// Parses the command line and runs the command that it names, or prints help, the version or one
/// sentence about a mistake. Returns the exit code. Throws what the command throws.
int run_command_line(int argc, char** argv, std::span<const Command> commands);

}  // namespace mxgpt::cli
