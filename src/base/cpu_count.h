// The number of processors that this process may use, from its affinity mask, the machine's
// physical cores and the CPU quota of its control group (containers).
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

namespace mxgpt {

/// Upper bound for configurable thread counts.
inline constexpr int kMaxThreads = 1024;

/// Processors in the affinity mask.
int usable_cpus();

/// Physical cores with a processor in the affinity mask, at most the quota rounded up. Two threads
/// of one core would share the vector units that matrix products need.
int default_thread_count();

/// CPU quota of this process's control groups (versions 1 and 2) in processors: the minimum over
/// all levels, or empty without a limit. Tests pass another `root`.
std::optional<double> cgroup_cpu_limit(const std::filesystem::path& root = "/");

/// Parses cpu.max (version 2): "QUOTA PERIOD" or "max PERIOD". Empty if unlimited or malformed.
std::optional<double> parse_cgroup_v2_quota(std::string_view text);
/// Parses cpu.cfs_quota_us and cpu.cfs_period_us (version 1). A quota of -1 means no limit.
std::optional<double> parse_cgroup_v1_quota(std::string_view quota, std::string_view period);

}  // namespace mxgpt
