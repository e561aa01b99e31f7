#include "base/cpu_count.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <set>
#include <string>
#include <vector>

namespace mxgpt {

namespace {

namespace fs = std::filesystem;

std::vector<int> allowed_cpus() {
  constexpr int kMaxCpus = 1 << 15;
  for (int size = CPU_SETSIZE; size <= kMaxCpus; size *= 2) {
    cpu_set_t* set = CPU_ALLOC(size);
    if (!set) break;
    std::vector<int> cpus;
    const bool fits = ::sched_getaffinity(0, CPU_ALLOC_SIZE(size), set) == 0;
    for (int cpu = 0; fits && cpu < size; ++cpu) {
      if (CPU_ISSET_S(cpu, CPU_ALLOC_SIZE(size), set)) cpus.push_back(cpu);
    }
    CPU_FREE(set);
    if (!cpus.empty()) return cpus;
  }
  return {0};
}

/// The first line of a file; empty if the file is missing.
std::string read_first_line(const fs::path& path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  return line;
}

std::optional<double> parse_number(std::string_view text) {
  while (!text.empty() && text.back() <= ' ') text.remove_suffix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> quota_ratio(std::string_view quota, std::string_view period) {
  const auto q = parse_number(quota), p = parse_number(period);
  if (!q || !p || !(*q > 0) || !(*p > 0)) return std::nullopt;
  return *q / *p;
}

}  // namespace

std::optional<double> parse_cgroup_v2_quota(std::string_view text) {
  const size_t space = text.find(' ');
  if (space == std::string_view::npos) return std::nullopt;
  return quota_ratio(text.substr(0, space), text.substr(space + 1));
}

std::optional<double> parse_cgroup_v1_quota(std::string_view quota, std::string_view period) {
  return quota_ratio(quota, period);
}

std::optional<double> cgroup_cpu_limit(const fs::path& root) {
  std::optional<double> lowest;
  const auto limit = [&](std::optional<double> cpus) {
    if (cpus) lowest = std::min(lowest.value_or(*cpus), *cpus);
  };
  // Lines are "ID:CONTROLLERS:PATH" (cgroups(7)); version 2 has no controllers. A container may see
  // a path that exists only outside it; the mounted directory is then its own group.
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool v2 = controllers == ",,";
    if (!v2 && controllers.find(",cpu,") == std::string::npos) continue;
    const fs::path mount = root / "sys/fs/cgroup" / (v2 ? "" : "cpu");
    fs::path group = fs::path(line.substr(second + 1)).relative_path().lexically_normal();
    if (!group.empty() && *group.begin() == "..") group.clear();
    for (;; group = group.parent_path()) {
      const fs::path folder = mount / group;
      limit(v2 ? parse_cgroup_v2_quota(read_first_line(folder / "cpu.max"))
               : parse_cgroup_v1_quota(read_first_line(folder / "cpu.cfs_quota_us"),
                                       read_first_line(folder / "cpu.cfs_period_us")));
      if (group.empty()) break;
    }
  }
  return lowest;
}

int usable_cpus() {
  return static_cast<int>(allowed_cpus().size());
}

int default_thread_count() {
  std::set<std::string> cores;  // keyed by the list of sibling processors
  for (const int cpu : allowed_cpus()) {
    const std::string siblings = read_first_line(
        "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
    cores.insert(siblings.empty() ? std::to_string(cpu) : siblings);
  }
  double count = static_cast<double>(cores.size());
  if (const auto quota = cgroup_cpu_limit()) count = std::min(count, std::ceil(*quota));
  return std::clamp(static_cast<int>(count), 1, kMaxThreads);
}

}  // namespace mxgpt
