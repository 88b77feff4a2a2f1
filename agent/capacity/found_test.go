package capacity

import (
	"testing"
	"testing/fstest"
)

// files are those of a machine, by their paths.
func files(paths map[string]string) fstest.MapFS {
	fs := fstest.MapFS{
		"proc/meminfo":             {Data: []byte("MemTotal:        4194304 kB\nMemFree: 1 kB\n")},
		"proc/sys/kernel/pid_max":  {Data: []byte("32768\n")},
		"sys/fs/cgroup/pids/other": {},
	}
	for path, text := range paths {
		fs[path] = &fstest.MapFile{Data: []byte(text)}
	}
	return fs
}

func TestAmountsFound(t *testing.T) {
	const v2 = "0::/system.slice/purser.service\n"
	const v1 = "5:memory:/box/agent\n4:cpu,cpuacct:/box\n3:pids:/\n1:name=systemd:/x\n0::/x\n"
	for name, tc := range map[string]struct {
		files  map[string]string
		parent string
		want   Amounts
	}{
		"a machine": {nil, "", Amounts{CPU: 4000, Memory: 4 << 30, Pids: 32768}},
		"no limits": {map[string]string{
			"proc/self/cgroup": v2, "sys/fs/cgroup/system.slice/memory.max": "max\n", "sys/fs/cgroup/system.slice/cpu.max": "max 100000\n", "sys/fs/cgroup/system.slice/pids.max": "max\n",
		}, "", Amounts{CPU: 4000, Memory: 4 << 30, Pids: 32768}},
		"version 2": {map[string]string{
			"proc/self/cgroup": v2, "sys/fs/cgroup/system.slice/memory.max": "1073741824\n", "sys/fs/cgroup/system.slice/purser.service/cpu.max": "150000 100000\n", "sys/fs/cgroup/system.slice/purser.service/pids.max": "100\n",
		}, "", Amounts{CPU: 1500, Memory: 1 << 30, Pids: 100}},
		"version 1": {map[string]string{
			"proc/self/cgroup": v1, "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "1073741824\n", "sys/fs/cgroup/memory/box/agent/memory.limit_in_bytes": "9223372036854771712\n",
			"sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "50000\n", "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
		}, "", Amounts{CPU: 500, Memory: 1 << 30, Pids: 32768}},
		"where containers are": {map[string]string{
			"proc/self/cgroup": v2, "sys/fs/cgroup/purser/memory.max": "2147483648\n",
		}, "/purser", Amounts{CPU: 4000, Memory: 2 << 30, Pids: 32768}},
		"where others are": {map[string]string{
			"proc/self/cgroup": v2, "sys/fs/cgroup/other/memory.max": "2147483648\n",
		}, "/purser", Amounts{CPU: 4000, Memory: 4 << 30, Pids: 32768}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := machine{files: files(tc.files), cpus: 4, parent: tc.parent}.amounts()
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range Resources {
				if got[r] != tc.want[r] {
					t.Errorf("%s: got %d, want %d", r, got[r], tc.want[r])
				}
			}
		})
	}
}

func TestThisMachine(t *testing.T) {
	got, err := Found("/purser")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range Resources {
		if got[r] <= 0 {
			t.Errorf("%s: %d", r, got[r])
		}
	}
}

func TestNothingToLookAt(t *testing.T) {
	if got, err := (machine{files: fstest.MapFS{}, cpus: 1}).amounts(); err == nil {
		t.Errorf("got %v", got)
	}
}
