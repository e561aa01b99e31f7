#include "cli/options.h"

#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <limits>
#include <map>
#include <memory>

#include "base/error.h"
#include "base/escape.h"
#include "base/version.h"
#include "cli/command.h"
#include "kernels/cpu/isa.h"

namespace mxgpt::cli {

namespace {

/// Ends parsing with a message about the option's value.
struct BadValue {
  std::string message;
};

/// Help with defaults in the descriptions and without hidden names.
class HelpFormatter : public CLI::Formatter {
 public:
  /// Hides some of an option's names, separated by commas.
  void hide(const CLI::Option* option, const std::string& names) { hidden_[option] = names; }

  std::string make_option_name(const CLI::Option* option, bool is_positional) const override {
    const std::string all = CLI::Formatter::make_option_name(option, is_positional);
    const auto found = hidden_.find(option);
    return found == hidden_.end() ? all : all.substr(0, all.find("," + found->second));
  }

  std::string make_option_opts(const CLI::Option* option) const override {
    if (option->get_type_size() == 0) return "";  // a flag
    std::string text = option->get_type_name().empty() ? "" : " " + option->get_type_name();
    if (option->get_required()) text += " (required)";
    return text;
  }

  std::string make_option_desc(const CLI::Option* option) const override {
    const std::string value = option->get_default_str();
    return option->get_description() + (value.empty() ? "" : " (default: " + value + ")");
  }

 private:
  std::map<const CLI::Option*, std::string> hidden_;
};

/// Number of insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`
/// (optimal string alignment distance).
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      d[i][j] =
          std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

/// " (did you mean 'x'?)" with the closest of `known`; empty if none is close.
std::string suggestion(std::string_view text, const std::vector<std::string>& known) {
  if (text.size() > 60) return "";
  std::string_view best;
  size_t best_distance = std::max<size_t>(1, text.size() / 3) + 1;
  for (const std::string& name : known) {
    const size_t distance = edit_distance(text, name);
    if (distance < best_distance) {
      best = name;
      best_distance = distance;
    }
  }
  return best.empty() ? "" : fmt::format(" (did you mean '{}'?)", best);
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
  }
  return names;
}

std::vector<std::string> command_names(CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
  return names;
}

/// An error message for the first argument that no option or command accepts; empty if there is
/// none.
std::string find_unexpected(CLI::App& app) {
  const auto commands = app.get_subcommands();
  CLI::App& parsed = commands.empty() ? app : *commands.front();
  if (&parsed != &app) {
    std::string nested = find_unexpected(parsed);
    if (!nested.empty()) return nested;
  }
  const std::vector<std::string> extra = app.remaining();
  if (extra.empty()) return "";
  const std::string& first = extra.front();
  if (first.starts_with('-')) {
    const std::string name = first.substr(0, first.find('='));
    return fmt::format("unknown option '{}'{}", name, suggestion(name, option_names(app)));
  }
  const std::vector<std::string> names = command_names(app);
  if (names.empty()) return fmt::format("'{}' is one argument too many", first);
  return fmt::format("unknown command '{}'{}", first, suggestion(first, names));
}

/// CLI11's own mistakes, in our words.
std::string describe(const CLI::ParseError& e) {
  std::string text = e.what();
  const auto replace = [&](std::string_view from, std::string_view to) {
    if (const size_t at = text.find(from); at != text.npos) text.replace(at, from.size(), to);
  };
  if (e.get_name() == "ArgumentMismatch") {
    const bool missing = text.find("missing") != text.npos;
    return text.substr(0, text.find(':')) +
           (missing ? " needs a value" : " is given more than once");
  }
  if (e.get_name() == "ExcludesError") replace(" excludes ", " cannot be combined with ");
  if (e.get_name() == "RequiresError") replace(" requires ", " needs ");
  return text;
}

double parse_number(std::string_view text) {
  double value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    throw BadValue{fmt::format("'{}' is not a number", text)};
  return value;
}

int64_t parse_bytes(std::string_view text) {
  static constexpr std::pair<std::string_view, double> kUnits[] = {
      {"", 1},         {"b", 1},      {"k", 1024},     {"kb", 1e3},    {"kib", 1024},
      {"m", 0x1p20},   {"mb", 1e6},   {"mib", 0x1p20}, {"g", 0x1p30},  {"gb", 1e9},
      {"gib", 0x1p30}, {"t", 0x1p40}, {"tb", 1e12},    {"tib", 0x1p40}};
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string unit(end, text.data() + text.size());
  unit.erase(0, unit.find_first_not_of(' '));
  for (char& c : unit) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (error == std::errc() && number > 0) {
    for (const auto& [name, factor] : kUnits) {
      if (unit == name && number * factor >= 1 && number * factor < 0x1p62)
        return static_cast<int64_t>(number * factor);
    }
  }
  throw BadValue{
      fmt::format("'{}' is not a valid memory size; write for example 24GiB or 12.5GB", text)};
}

}  // namespace

Option& Option::metavar(const std::string& name) {
  option_->type_name(name);
  return *this;
}
Option& Option::group(const std::string& heading) {
  option_->group(heading);
  return *this;
}
Option& Option::default_text(const std::string& text) {
  option_->default_str(text);
  return *this;
}
Option& Option::required() {
  option_->required();
  return *this;
}
Option& Option::excludes(const Option& other) {
  option_->excludes(other.option_);
  return *this;
}
Option& Option::needs(const Option& other) {
  option_->needs(other.option_);
  return *this;
}
Option& Option::hidden() {
  option_->group("");
  return *this;
}

Option CommandOptions::declare(
    const std::string& names,
    const std::function<CLI::Option*(const std::string& all_names)>& add_option) {
  const size_t bar = names.find('|');
  std::string all = names;
  if (bar != names.npos) all[bar] = ',';
  CLI::Option* option = add_option(all);
  if (bar != names.npos) {
    const auto formatter = std::dynamic_pointer_cast<HelpFormatter>(app_->get_formatter());
    formatter->hide(option, names.substr(bar + 1));
  }
  return Option(option);
}

Option CommandOptions::add(const std::string& names, const std::string& help, Store store,
                           Arity arity) {
  return declare(names, [&](const std::string& all_names) {
    const auto name = std::make_shared<std::string>();
    CLI::Option* option = app_->add_option(
        all_names, CLI::callback_t([store = std::move(store), name](const CLI::results_t& results) {
          for (const std::string& text : results) {
            try {
              store(text);
            } catch (const BadValue& bad) {
              throw CLI::ValidationError(*name, bad.message);
            }
          }
          return true;
        }),
        help);
    *name = option->get_name();
    if (arity == Arity::repeated) option->expected(1)->take_all();
    if (arity == Arity::any)
      option->expected(1, CLI::detail::expected_max_vector_size)->allow_extra_args();
    return option;
  });
}

Option CommandOptions::flag(const std::string& names, bool& value, const std::string& help) {
  return flag(names, value, true, help);
}

Option CommandOptions::flag(const std::string& names, bool& value, bool set_to,
                            const std::string& help) {
  return declare(names, [&](const std::string& all_names) {
    return app_->add_flag_callback(
        all_names, [&value, set_to] { value = set_to; }, help);
  });
}

Option CommandOptions::text(const std::string& names, std::string& value, const std::string& help) {
  return add(names, help, [&value](std::string_view text) { value = text; }).metavar("TEXT");
}

Option CommandOptions::text(const std::string& names, std::optional<std::string>& value,
                            const std::string& help) {
  return add(names, help, [&value](std::string_view text) { value = text; }).metavar("TEXT");
}

Option CommandOptions::texts(const std::string& names, std::vector<std::string>& values,
                             const std::string& help) {
  const auto store = [&values](std::string_view text) { values.emplace_back(text); };
  return add(names, help, store, Arity::repeated).metavar("TEXT");
}

Option CommandOptions::path(const std::string& names, std::filesystem::path& value,
                            const std::string& help) {
  return add(names, help, [&value](std::string_view text) { value = text; }).metavar("FILE");
}

Option CommandOptions::number(const std::string& names, double& value, const std::string& help) {
  const auto store = [&value](std::string_view text) { value = parse_number(text); };
  return add(names, help, store).metavar("X").default_text(fmt::format("{}", value));
}

Option CommandOptions::number(const std::string& names, std::optional<double>& value, double min,
                              double max, const std::string& help) {
  const auto store = [=, &value](std::string_view text) {
    const double number = parse_number(text);
    if (!(number >= min && number <= max))
      throw BadValue{fmt::format("{} is outside {} to {}", text, min, max)};
    value = number;
  };
  return add(names, help, store).metavar("X");
}

Option CommandOptions::bytes(const std::string& names, int64_t& value, const std::string& help) {
  return add(names, help, [&value](std::string_view text) { value = parse_bytes(text); })
      .metavar("SIZE");
}

Option CommandOptions::bytes(const std::string& names, std::optional<uint64_t>& value,
                             const std::string& help) {
  return add(names, help, [&value](std::string_view text) { value = parse_bytes(text); })
      .metavar("SIZE");
}

Option CommandOptions::name(const std::string& names, std::string& value,
                            const std::vector<std::string>& values, const std::string& help) {
  const auto store = [values, &value](std::string_view text) {
    value = values[find_choice(text, {values.begin(), values.end()})];
  };
  return add(names, help, store).metavar("NAME");
}

CommandOptions CommandOptions::subcommand(const std::string& name, const std::string& summary,
                                          std::function<void()> selected) {
  app_->require_subcommand(1);
  CLI::App* sub = app_->add_subcommand(name, summary);
  sub->callback(std::move(selected));
  return CommandOptions(sub);
}

void CommandOptions::footer(const std::string& text) {
  app_->footer(text);
}

std::string CommandOptions::first_given(std::string_view group) const {
  for (const CLI::Option* option : app_->get_options()) {
    if (option->get_group() == group && option->count() > 0) return option->get_name();
  }
  return "";
}

void CommandOptions::for_each_item(std::string_view list, const Store& store) {
  while (true) {
    const size_t comma = list.find(',');
    store(list.substr(0, comma));
    if (comma == list.npos) return;
    list.remove_prefix(comma + 1);
  }
}

size_t CommandOptions::find_choice(std::string_view text,
                                   const std::vector<std::string_view>& names) {
  const auto same = [](char a, char b) {
    return std::tolower(static_cast<unsigned char>(a)) ==
           std::tolower(static_cast<unsigned char>(b));
  };
  for (size_t i = 0; i < names.size(); ++i) {
    if (std::equal(text.begin(), text.end(), names[i].begin(), names[i].end(), same)) return i;
  }
  throw BadValue{fmt::format("'{}' is not one of {}{}", text, fmt::join(names, ", "),
                             suggestion(text, {names.begin(), names.end()}))};
}

std::string CommandOptions::joined(const std::vector<std::string_view>& names) {
  return fmt::format("{}", fmt::join(names, "|"));
}

void CommandOptions::fail_integer(std::string_view text, const std::string& min,
                                  const std::string& max) {
  throw BadValue{fmt::format("'{}' is not an integer from {} to {}", text, min, max)};
}

std::string option_of_field(const std::string& where) {
  static constexpr std::pair<std::string_view, const char*> kOptions[] = {
      {field::kContextLength, "--ctx"},
      {field::kMaxSequences, "--max-num-seqs"},
      {field::kMaxBatchedTokens, "--max-num-batched-tokens"},
      {field::kKvCacheTokens, "--kv-tokens"},
      {field::kKvCacheFormat, "--kv"},
      {field::kDevice, "--device"},
      {field::kDeviceMemoryBudget, "--vram-budget"},
      {field::kMemoryLock, "--mlock"},
      {field::kTensorFormat, "--tensor-type"},
      {field::kListenAddress, "--host"},
      {field::kResponseStore, "--response-store"}};
  for (const auto& [name, option] : kOptions) {
    if (where == name) return option;
  }
  return where;
}

int run_command_line(int argc, char** argv, std::span<const Command> commands) {
  CLI::App app{"mxgpt runs gpt-oss and other GPTs from MXFP4 and GGUF weights.", "mxgpt"};
  app.formatter(std::make_shared<HelpFormatter>());
  app.set_version_flag("--version", [] {
    return fmt::format("mxgpt {}, kernels for {}", version(), kernels::isa_name(kernels::isa()));
  });
  app.require_subcommand(0, 1);
  app.allow_extras();  // commands inherit it; find_unexpected() names what is left over

  std::function<int()> selected;
  for (const Command& entry : commands) {
    CLI::App* command = app.add_subcommand(entry.name, entry.summary);
    CommandOptions options(command);
    command->callback([run = entry.declare(options), &selected] { selected = run; });
  }
  std::string mistake;
  try {
    app.parse(argc, argv);
    mistake = find_unexpected(app);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help or --version
    mistake = find_unexpected(app);
    if (mistake.empty()) mistake = describe(e);
  }
  if (!mistake.empty()) {
    const auto named = app.get_subcommands();
    fmt::print(stderr, "mxgpt: {}; see `mxgpt {}--help`\n", escape_for_terminal(mistake, 1000),
               named.empty() ? "" : named.front()->get_name() + " ");
    return kUsage;
  }
  if (!selected) {
    fmt::print("{}", app.help());
    return kUsage;
  }
  return selected();
}

}  // namespace mxgpt::cli
