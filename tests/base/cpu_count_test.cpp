#include "base/cpu_count.h"

#include <gmock/gmock.h>
#include <sched.h>

#include <fstream>

#include "support/temporary_directory.h"

namespace mxgpt {
namespace {

using testing::Optional;

TEST(CpuCount, QuotaOfVersion2) {
  EXPECT_THAT(parse_cgroup_v2_quota("150000 100000"), Optional(1.5));
  EXPECT_THAT(parse_cgroup_v2_quota("400000 50000\n"), Optional(8.0));
  for (const char* none : {"max 100000", "", "max", "100000", "0 100000", "100000 0", "-1 100000",
                           "100000 100000 7", "1e99999 1", "nan 1", "x y"})
    EXPECT_EQ(parse_cgroup_v2_quota(none), std::nullopt) << none;
}

TEST(CpuCount, QuotaOfVersion1) {
  EXPECT_THAT(parse_cgroup_v1_quota("200000", "100000"), Optional(2.0));
  EXPECT_EQ(parse_cgroup_v1_quota("-1", "100000"), std::nullopt);
  EXPECT_EQ(parse_cgroup_v1_quota("200000", ""), std::nullopt);
  EXPECT_EQ(parse_cgroup_v1_quota("", ""), std::nullopt);
}

/// Fake proc and sys files below a temporary directory.
class Cgroups : public testing::Test {
 protected:
  void write(const std::string& path, const std::string& text) {
    const auto file = root() / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  std::filesystem::path root() const { return directory_.path(); }

 private:
  TemporaryDirectory directory_;
};

TEST_F(Cgroups, WithoutAnyThereIsNoLimit) {
  EXPECT_EQ(cgroup_cpu_limit(root()), std::nullopt);
  write("proc/self/cgroup", "0::/user.slice\nnonsense\n:\n");
  EXPECT_EQ(cgroup_cpu_limit(root()), std::nullopt);
}

TEST_F(Cgroups, OfVersion2TheLeastOfAllLevelsCounts) {
  write("proc/self/cgroup", "0::/pods/mine\n");
  write("sys/fs/cgroup/pods/mine/cpu.max", "max 100000\n");
  EXPECT_EQ(cgroup_cpu_limit(root()), std::nullopt);
  write("sys/fs/cgroup/pods/cpu.max", "250000 100000\n");
  EXPECT_THAT(cgroup_cpu_limit(root()), Optional(2.5));
  write("sys/fs/cgroup/pods/mine/cpu.max", "400000 100000\n");
  EXPECT_THAT(cgroup_cpu_limit(root()), Optional(2.5));
  write("sys/fs/cgroup/pods/mine/cpu.max", "50000 100000\n");
  EXPECT_THAT(cgroup_cpu_limit(root()), Optional(0.5));
}

TEST_F(Cgroups, OfVersion1TheControllerIsFoundAmongOthers) {
  write("proc/self/cgroup",
        "5:memory:/a\n3:cpuset:/b\n2:cpu,cpuacct:/docker/c\n1:name=systemd:/\n");
  write("sys/fs/cgroup/cpu/docker/c/cpu.cfs_quota_us", "300000\n");
  write("sys/fs/cgroup/cpu/docker/c/cpu.cfs_period_us", "100000\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_THAT(cgroup_cpu_limit(root()), Optional(3.0));
}

TEST_F(Cgroups, APathOutsideTheContainerLeavesItsOwnGroup) {
  write("proc/self/cgroup", "0::/../../elsewhere\n2:cpu:/docker/not-here\n");
  write("sys/fs/cgroup/cpu.max", "200000 100000\n");
  EXPECT_THAT(cgroup_cpu_limit(root()), Optional(2.0));
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_THAT(cgroup_cpu_limit(root()), Optional(1.0));
}

TEST(CpuCount, OfAnAffinityMask) {
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  EXPECT_EQ(usable_cpus(), CPU_COUNT(&before));
  EXPECT_GE(default_thread_count(), 1);
  EXPECT_LE(default_thread_count(), usable_cpus());
  int cpu = 0;
  while (!CPU_ISSET(cpu, &before)) ++cpu;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(usable_cpus(), 1);
  EXPECT_EQ(default_thread_count(), 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
}

}  // namespace
}  // namespace mxgpt
