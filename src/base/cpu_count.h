// How many processors this process may use: by its affinity mask, by the machine's physical cores,
// and by the quota of its control group, which a container has instead of fewer processors.
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

namespace mxgpt {

/// More threads than this are refused where they are asked for.
inline constexpr int kMaxThreads = 1024;

/// Processors in the affinity mask.
int usable_cpus();

/// Physical cores with a processor in the affinity mask, but no more than the quota rounded up.
/// Two threads of one core share what matrix products need.
int default_thread_count();

/// Processors' worth of time that the control groups of this process allow, the least of all its
/// levels; empty where none is limited. Versions 1 and 2. `root` is "/" but in tests.
std::optional<double> cgroup_cpu_limit(const std::filesystem::path& root = "/");

/// Of cpu.max (version 2), "QUOTA PERIOD" or "max PERIOD". Empty where not limited, or not so.
std::optional<double> parse_cgroup_v2_quota(std::string_view text);
/// Of cpu.cfs_quota_us and cpu.cfs_period_us (version 1); a quota of -1 means none.
std::optional<double> parse_cgroup_v1_quota(std::string_view quota, std::string_view period);

}  // namespace mxgpt
