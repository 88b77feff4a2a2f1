package launchspec_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func TestValidate(t *testing.T) {
	tests := map[string]struct {
		fields string // beside app, function and image
		want   []string
	}{
		"least":                {``, nil},
		"everything":           {`"environment": "prod", "id": "x/y.z", "kind": "job", "command": [""], "timeout": "1h1m", "retries": 3, "ttl_after_finished": "0", "runtime": "crun", "user": "app:1000", "workdir": "/", "network": {"mode": "host"}, "stdin": true, "tty": true`, nil},
		"service.restart":      {`"kind": "job", "restart": {}`, []string{"restart: must not be given for a job, which has retries: restart belongs to kind: service (service.restart)"}},
		"job.fields":           {`"retries": 1, "ttl_after_finished": "1s"`, []string{"retries: must not be given for a service"}},
		"empty strings":        {`"environment": "", "id": "", "kind": "", "user": "", "workdir": "", "runtime": ""`, []string{"environment: must be 1 to 64", "id: must be letters", "kind: must be service or job", "runtime: must be 1 to 64", "user: must be a user", "workdir: must be an absolute path"}},
		"name too long":        {`"environment": "` + strings.Repeat("x", 65) + `"`, []string{"environment: must be 1 to 64"}},
		"ID too long":          {`"id": "` + strings.Repeat("x", 130) + `"`, []string{"id: must be at most 129 characters (string.max_len)"}},
		"IDs":                  {`"id": "../x"`, []string{"id: must be letters, digits"}},
		"durations":            {`"stop": {"grace": "-1s"}, "restart": {"backoff_min": "0s", "backoff_max": "forever"}`, []string{"restart.backoff_max: must be a duration", "stop.grace: must be a duration such as 500ms, 30s or 1h30m, or 0", "restart.backoff_min: must be longer than 0 (duration.positive)"}},
		"endless duration":     {`"kind": "job", "timeout": "99999999h"`, []string{"timeout: must be a duration below 292 years (duration.range)"}},
		"no timeout":           {`"kind": "job", "timeout": "0h"`, []string{"timeout: must be longer than 0 (duration.positive)"}},
		"zero":                 {`"stop": {"grace": "0"}`, nil},
		"backoffs cross":       {`"restart": {"backoff_min": "3s", "backoff_max": "2s"}`, []string{"restart.backoff_min: must be at most backoff_max (restart.backoff)"}},
		"above default":        {`"restart": {"backoff_min": "2m"}`, []string{"restart.backoff_min: must be at most backoff_max, which is 1m0s by default (restart.backoff)"}},
		"below default":        {`"restart": {"backoff_max": "1ms"}`, []string{"restart.backoff_max: must be at least backoff_min, which is 1s by default (restart.backoff)"}},
		"equal backoffs":       {`"restart": {"backoff_min": "2m", "backoff_max": "120s"}`, nil},
		"memory too little":    {`"resources": {"memory": "5Mi"}`, []string{"resources.memory: must be at least 6Mi, or no container starts (quantity.least)"}},
		"memory of what":       {`"resources": {"memory": "256MB"}`, []string{"resources.memory: must be a number of bytes such as 256Mi, 1Gi or 500M (string.pattern)"}},
		"memory of the world":  {`"resources": {"memory": "99999Ei"}`, []string{"resources.memory: must be at most 1Ei (quantity.range)"}},
		"memory with fraction": {`"resources": {"memory": "0.5Gi"}`, nil},
		"cpu":                  {`"resources": {"cpu": "NaN"}`, []string{"resources.cpu: must be"}},
		"devices":              {`"resources": {"devices": ["nvidia.com/gpu=0", "a/b=c", "Vendor-1.example/net_card=GPU-0:1.x", "v/c=0"]}`, nil},
		"no devices":           {`"resources": {"devices": []}`, nil},
		"a device twice":       {`"resources": {"devices": ["v/c=0", "v/c=1", "v/c=0"]}`, []string{"resources.devices: must not repeat an item (repeated.unique)"}},
		"devices by path": {`"resources": {"devices": ["/dev/fuse"]}`, []string{
			"resources.devices[0]: must be the name of a CDI device, vendor/class=name, such as nvidia.com/gpu=0; a path in /dev is none (string.pattern)"}},
		"no names of devices":   {`"resources": {"devices": ["v/c=0", "gpu=0", "v/c", "v/c=", "/c=0", "v/=0", "1v/c=0", "v/1c=0", "v-/c=0", "v/c.=0", "v/c=-0", "v/c=0:", "v/c/d=0", "v/c=0=1", "v/c=a b", "", "v/c=0\n"]}`, noNames(1, 16)},
		"long name of a device": {`"resources": {"devices": ["v/c=` + strings.Repeat("x", 253) + `"]}`, []string{"resources.devices[0]: must be at most 256 characters"}},
		"rolling with a device": {`"rotation": {"strategy": "rolling"}, "resources": {"devices": ["v/c=0"]}`, []string{"rotation.strategy: must be restart, or left out: two instances would run side by side for a while, and a device (resources.devices) is for one (rotation.exclusive)"}},
		"reference":             {`"image": {"ref": "a b"}`, []string{"image.ref: must be an image reference such as"}},
		"reference with scheme": {`"image": {"ref": "docker://registry.example/app:1"}`, []string{"image.ref: must not have docker:// in front: leave it out, as in registry.example/app:1 (image.ref)"}},
		"reference in capitals": {`"image": {"ref": "Registry.example/App:1"}`, []string{"image.ref: must be lower case up to the tag (image.ref)"}},
		"references":            {`"image": {"ref": "localhost:5000/a/b:t@sha256:` + strings.Repeat("0", 64) + `"}`, nil},
		"env at its limit":      {`"env": {"AB": "` + strings.Repeat("x", 128<<10-4) + `"}`, nil},
		"env above its limit":   {`"env": {"AB": "` + strings.Repeat("x", 128<<10-1) + `"}`, []string{`env["AB"]: must, with its name, be at most 128 KiB; it is 3 bytes too long (env.size)`}},
		"image env above":       {`"image": {"ref": "b", "env": {"AB": "` + strings.Repeat("ä", 64<<10) + `"}}`, []string{`image.env["AB"]: must, with its name, be at most 128 KiB; it is 4 bytes too long (env.size)`}},
		"env name too long":     {`"env": {"` + strings.Repeat("A", 257) + `": ""}`, []string{`env["` + strings.Repeat("A", 257) + `"]: the name must be at most 256 characters (string.max_len)`}},
		"reserved":              {`"env": {"PURSER_X": ""}, "image": {"ref": "b", "env": {"PURSER_": ""}}`, []string{`image.env["PURSER_"]: the name must not start`, `env["PURSER_X"]: the name must not start`}},
		"argument too long":     {`"args": ["` + strings.Repeat("x", 128<<10) + `"]`, []string{"args[0]: must be at most 131071 bytes (string.max_bytes)"}},
		"signals":               {`"stop": {"signal": "sigrtmin+3"}`, nil},
		"signal by number":      {`"stop": {"signal": "64"}`, nil},
		"no such signal":        {`"stop": {"signal": "SIGNAL"}`, []string{"stop.signal: is no signal: want a name or number such as SIGTERM, TERM or 15 (stop.signal)"}},
		"signal 0":              {`"stop": {"signal": "0"}`, []string{"stop.signal: is no signal"}},
		"signal 65":             {`"stop": {"signal": "65"}`, []string{"stop.signal: is no signal"}},
		"network":               {`"network": {"mode": "bridged"}`, []string{"network.mode: must be none, host or bridge (string.in)"}},
		"bridge":                {`"network": {"mode": "bridge", "ports": [{"container": 80, "host": 8080, "host_ip": "::1", "proxy_protocol": "v2"}, {"container": 53, "protocol": "udp"}, {"container": 53}], "cidr_allowlist": ["10.0.0.0/8", "fd00::/8"]}`, nil},
		"bridge by its ports":   {`"network": {"ports": [{"container": 80}], "block_network": true}`, nil},
		"not on a bridge": {`"network": {"mode": "host", "ports": [{"container": 80}]}`, []string{
			"network.mode: must be bridge, or left out: ports, block_network and cidr_allowlist belong to it (network.bridge)"}},
		"blocked, not on a bridge": {`"network": {"mode": "none", "block_network": true}`, []string{"network.mode: must be bridge"}},
		"blocked and allowed": {`"network": {"block_network": true, "cidr_allowlist": ["::/0"]}`, []string{
			"network.cidr_allowlist: must not be given with block_network, which lets nothing be reached (network.blocked)"}},
		"published ports": {`"network": {"ports": [{"host": 0}, {"container": 65536, "host_ip": "localhost", "protocol": "sctp", "proxy_protocol": "v3"}]}`, []string{
			"network.ports[0].container: is required (required)", "network.ports[0].host: must be", "network.ports[1].container: must be",
			"network.ports[1].host_ip: must be a valid IP address", "network.ports[1].protocol: must be tcp or udp", "network.ports[1].proxy_protocol: must be v1 or v2"}},
		"addresses of no node": {`"network": {"ports": [{"container": 1, "host_ip": "224.0.0.1"}, {"container": 2, "host_ip": "255.255.255.255"}, {"container": 3, "host_ip": "ff02::1"}, {"container": 4, "host_ip": "fe80::1"}, {"container": 5, "host_ip": "fe80::1%eth0"}, {"container": 6, "host_ip": "::"}, {"container": 7, "host_ip": "0.0.0.0"}]}`, []string{
			"network.ports[0].host_ip: must be an address of the node's: no node has this one for itself (port.host_ip)",
			"network.ports[1].host_ip: must be an address of the node's: no node has this one for itself (port.host_ip)",
			"network.ports[2].host_ip: must be an address of the node's: no node has this one for itself (port.host_ip)",
			"network.ports[3].host_ip: must be an address of the node's: one that is of a link needs its interface, as fe80::1%eth0 (port.host_ip)"}},
		"a port twice": {`"network": {"ports": [{"container": 80}, {"container": 81, "host": 80}, {"container": 80, "protocol": "udp"}, {"container": 80, "host_ip": "127.0.0.1"}, {"container": 1, "host": 80, "host_ip": "::ffff:127.0.0.1"}]}`, []string{
			"network.ports[1].host: must not name a port of the node twice: without host_ip it is that of all addresses (port.unique)",
			"network.ports[3].host: must not name a port of the node twice", "network.ports[4].host: must not name a port of the node twice"}},
		"PROXY over udp": {`"network": {"ports": [{"container": 53, "protocol": "udp", "proxy_protocol": "v1"}]}`, []string{
			"network.ports[0].proxy_protocol: must be left out: the PROXY protocol belongs to tcp (port.proxy)"}},
		"CIDRs":       {`"network": {"cidr_allowlist": ["10.0.0.0", "10.0.0.0/33", "example.com"]}`, []string{"network.cidr_allowlist[0]: must be a CIDR, as 10.0.0.0/8 or fd00::/8 (cidr)", "network.cidr_allowlist[1]: must be", "network.cidr_allowlist[2]: must be"}},
		"rotation":    {`"rotation": {"strategy": "rolling", "min_ready": "0s"}, "mounts": [{"type": "tmpfs", "target": "/t"}, {"source": "/s", "target": "/s", "read_only": true}]`, nil},
		"strategies":  {`"rotation": {"strategy": "canary", "min_ready": "-1s"}`, []string{"rotation.strategy: must be rolling, restart or manual (string.in)", "rotation.min_ready: must be a duration"}},
		"two at once": {`"rotation": {"strategy": "rolling"}, "network": {"mode": "host"}`, []string{"rotation.strategy: must be restart, or left out: two instances would run side by side for a while, and network.mode host is for one (rotation.exclusive)"}},
		"two that write": {`"rotation": {"strategy": "rolling"}, "mounts": [{"type": "volume", "source": "v", "target": "/v"}]`, []string{
			"rotation.strategy: must be restart, or left out: two instances would run side by side for a while, and a mount that can be written to is for one"}},
		"a whole rotation": {`"rotation": {"strategy": "manual", "min_ready": "2s", "health_timeout": "30s", "splay": "5s", "signal": "1", "window": {"cron": "*/5 0-4,22 * JAN-mar mon", "duration": "3h", "timezone": "Europe/Zurich"}}`, nil},
		"times of rotation": {`"rotation": {"health_timeout": "0s", "splay": "-1s", "window": {"cron": "0 2 * * *", "duration": "0s"}}`, []string{
			"rotation.splay: must be a duration", "rotation.health_timeout: must be longer than 0 (duration.positive)", "rotation.window.duration: must be longer than 0"}},
		"never healthy":              {`"rotation": {"min_ready": "30s", "health_timeout": "30s"}`, []string{"rotation.health_timeout: must be longer than min_ready (rotation.health)"}},
		"never healthy by default":   {`"rotation": {"health_timeout": "10s"}`, []string{"rotation.health_timeout: must be longer than min_ready, which is 10s by default (rotation.health)"}},
		"healthy with a probe":       {`"rotation": {"health_timeout": "1ns"}, "probes": {"ready": {"tcp": {"port": 1}}}`, nil},
		"rotation of a job":          {`"kind": "job", "rotation": {"window": {"cron": "0 2 * * *", "duration": "1h"}}`, []string{"rotation: must not be given for a job, which is left to finish: rotation belongs to kind: service (service.rotation)"}},
		"no signal of rotation":      {`"rotation": {"signal": "SIGNAL"}`, []string{"rotation.signal: is no signal: want a name or number such as SIGTERM, TERM or 15 (rotation.signal)"}},
		"a strange signal":           {`"rotation": {"signal": "-1"}`, []string{"rotation.signal: is no signal"}},
		"a window of nothing":        {`"rotation": {"window": {}}`, []string{"rotation.window.cron: is required", "rotation.window.duration: is required"}},
		"four fields":                {`"rotation": {"window": {"cron": "0 2 * *", "duration": "1h"}}`, []string{`rotation.window.cron: must have the five fields of crontab: minute, hour, day of the month, month and day of the week, as in "0 2 * * *" (window.cron)`}},
		"a word":                     {`"rotation": {"window": {"cron": "@daily", "duration": "1h"}}`, []string{"rotation.window.cron: must have the five fields"}},
		"an hour too late":           {`"rotation": {"window": {"cron": "0 24 * * *", "duration": "1h"}}`, []string{"rotation.window.cron: has no valid hour: want crontab's *, 5, 1-5, */5 or a list of these, and within bounds, of which Sunday is 0 (window.cron)"}},
		"Sunday as 7":                {`"rotation": {"window": {"cron": "0 2 * * 7", "duration": "1h"}}`, []string{"rotation.window.cron: has no valid day of the week"}},
		"a zone in front":            {`"rotation": {"window": {"cron": "TZ=UTC 2 * * *", "duration": "1h"}}`, []string{"rotation.window.cron: has no valid minute"}},
		"a zone and nothing":         {`"rotation": {"window": {"cron": "TZ=UTC", "duration": "1h"}}`, []string{"rotation.window.cron: must have the five fields"}},
		"a day that never comes":     {`"rotation": {"window": {"cron": "0 2 30 2 *", "duration": "1h"}}`, []string{"rotation.window.cron: must be a time that comes (window.cron)"}},
		"a list of nothing":          {`"rotation": {"window": {"cron": ", 2 * * *", "duration": "1h"}}`, []string{"rotation.window.cron: must be a time that comes (window.cron)"}},
		"the day that comes rarely":  {`"rotation": {"window": {"cron": "0 2 29 2 *", "duration": "1h"}}`, nil},
		"no such zone":               {`"rotation": {"window": {"cron": "0 2 * * *", "duration": "1h", "timezone": "Europe/Züri"}}`, []string{"rotation.window.timezone: must be a time zone of the IANA database, such as Europe/Zurich (window.timezone)"}},
		"the zone of which machine?": {`"rotation": {"window": {"cron": "0 2 * * *", "duration": "1h", "timezone": "Local"}}`, []string{"rotation.window.timezone: must be a time zone"}},
		"a file as a zone":           {`"rotation": {"window": {"cron": "0 2 * * *", "duration": "1h", "timezone": "../../etc/localtime"}}`, []string{"rotation.window.timezone: must be a time zone"}},
		"on a change":                {`"secrets": [{"name": "r"}, {"name": "s", "on_change": "ignore"}, {"name": "t", "env": false, "file": {"path": "/t"}, "on_change": "signal"}, {"name": "u", "file": {"path": "/u"}, "on_change": "restart"}]`, nil},
		"variables that change": {`"secrets": [{"name": "r", "on_change": "signal"}, {"name": "s", "file": {"path": "/s"}, "on_change": "refresh"}]`, []string{
			"secrets[0].on_change: must be restart or ignore: the variables of a process that runs cannot be changed; files can, with file and env: false (secret.on_change)", "secrets[1].on_change: must be restart or ignore"}},
		"no way to change":     {`"secrets": [{"name": "r", "on_change": "reload"}]`, []string{"secrets[0].on_change: must be restart, signal, refresh or ignore (string.in)"}},
		"one at a time":        {`"rotation": {"strategy": "restart", "min_ready": "1m"}, "network": {"mode": "host"}`, nil},
		"secrets":              {`"secrets": [{"name": "s"}, {"version": 0}, {"name": "s"}]`, []string{"secrets[2].name: repeats secrets[0].name (secrets.unique)", "secrets[1].name: is required", "secrets[1].version: must be greater than or equal to 1"}},
		"keys to one name":     {`"secrets": [{"name": "s", "prefix": "P_", "keys": {"A": "X", "B": "X"}}]`, []string{`secrets[0].keys["B"]: gives the same variable as key A (keys.unique)`}},
		"names of files":       {`"secrets": [{"name": "s", "env": false, "keys": {"A": "tls.crt", "B": "..data", "C": "a/b", "D": ".", "E": ".e-1"}, "file": {"path": "/s"}}]`, []string{`secrets[0].keys["B"]: must be letters, digits, '_', '.' and '-', with one '.' at most to begin with (string.pattern)`, `secrets[0].keys["C"]`, `secrets[0].keys["D"]`}},
		"files and variables":  {`"secrets": [{"name": "s", "keys": {"A": "tls.crt"}, "file": {"path": "/s"}}]`, []string{`secrets[0].keys["A"]: must be letters, digits and '_', the first no digit; the name of a file alone, with env: false, may have '.' and '-', too (string.pattern)`}},
		"names in dotenv":      {`"secrets": [{"name": "s", "env": false, "keys": {"A": "tls.crt"}, "file": {"path": "/s/e", "format": "dotenv"}}]`, []string{`secrets[0].keys["A"]: must be letters, digits and '_', the first no digit, as dotenv files are read (string.pattern)`}},
		"keys become reserved": {`"secrets": [{"name": "s", "prefix": "PUR", "keys": {"A": "SER_X"}}]`, []string{`secrets[0].keys["A"]: must, with the prefix, not start with PURSER_: purser alone sets those variables (env.reserved)`}},
		"reserved prefix":      {`"secrets": [{"name": "s", "prefix": "PURSER_"}]`, []string{`secrets[0].prefix: must not start with PURSER_`}},
		"files":                {`"secrets": [{"name": "s", "env": false, "file": {"path": "/run/secrets/s"}}, {"name": "t", "file": {"path": "/run/secrets/t.json", "format": "json", "mode": "0440", "uid": 0, "gid": 7}}]`, nil},
		"no way in":            {`"secrets": [{"name": "s", "env": false}]`, []string{"secrets[0]: must be delivered in some way: with env: false it needs a file (secret.delivered)"}},
		"file without a path":  {`"secrets": [{"name": "s", "file": {"format": "jsn", "mode": "256"}}]`, []string{"secrets[0].file.path: is required", "secrets[0].file.format: must be keys, json or dotenv", `secrets[0].file.mode: must be permissions in octal with a 0 before them, in quotes, such as "0400"`}},
		"places of files": {`"mounts": [{"target": "/data", "type": "tmpfs"}], "secrets": [{"name": "a", "file": {"path": "x"}}, {"name": "b", "file": {"path": "/"}}, {"name": "c", "file": {"path": "/c.json", "format": "json"}}, {"name": "d", "file": {"path": "/a/../d"}}, {"name": "e", "file": {"path": "/proc/e"}}, {"name": "f", "file": {"path": "/data"}}, {"name": "g", "file": {"path": "/g/..data/x", "format": "dotenv"}}, {"name": "h", "file": {"path": "/h/x", "format": "json"}}, {"name": "i", "file": {"path": "/h/x", "format": "dotenv"}}]`, []string{
			"secrets[0].file.path: must be an absolute path",
			"secrets[1].file.path: must not be / (file.path)",
			"secrets[2].file.path: must be in a directory of its own, such as /run/secrets",
			"secrets[3].file.path: must be a plain path",
			"secrets[4].file.path: must not be in /proc",
			"secrets[5].file.path: must not be where mounts[0] is",
			"secrets[6].file.path: must not name a file or directory that starts with ..",
			"secrets[8].file.path: is the file of secret h already"}},
		"a mount below files": {`"mounts": [{"target": "/run/s/x", "type": "tmpfs"}, {"target": "/run/sx", "type": "tmpfs"}], "secrets": [{"name": "a", "file": {"path": "/run/s"}}]`, []string{"mounts[0].target: must not be below /run/s, where the files of secret a are (mount.target)"}},
		"repeated key":        {`"secrets": [{"name": "s", "required_keys": ["A", "A"]}]`, []string{`secrets[0].required_keys: must not repeat an item (repeated.unique)`}},
		"mounts":              {`"mounts": [{"target": "/a", "source": "/b"}, {"target": "/a", "type": "tmpfs"}, {"source": "c", "target": "/x/../y"}]`, []string{"mounts[1].target: repeats mounts[0].target (mounts.unique)", "mounts[2].source: must be an absolute path", "mounts[2].target: must be a clean path below /, and not in /proc or /sys (mount.target)"}},
		"tmpfs":               {`"mounts": [{"target": "/a", "type": "tmpfs", "size": "1"}]`, []string{"mounts[0].size: must be at least 4Ki (quantity.least)"}},
		"size of a bind":      {`"mounts": [{"target": "/a", "source": "/a", "size": "1Mi"}]`, []string{"mounts[0].size: must not be given here: source belongs to type: bind and volume, size to type: tmpfs (mount.tmpfs)"}},
		"volume":              {`"mounts": [{"target": "/a", "type": "volume", "source": "a.b-c_1"}, {"target": "/b", "type": "volume", "source": "a.b-c_1", "read_only": true}]`, nil},
		"volume's path":       {`"mounts": [{"target": "/a", "type": "volume", "source": "/srv"}]`, []string{"mounts[0].source: must be the name of a volume: 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit (mount.volume)"}},
		"bind of a name":      {`"mounts": [{"target": "/a", "source": "data"}]`, []string{"mounts[0].source: must be an absolute path; the name of a volume goes with type: volume (mount.path)"}},
		"volume no name":      {`"mounts": [{"target": "/a", "type": "volume"}]`, []string{"mounts[0]: needs a source, or type: tmpfs (mount.bind)"}},
		"volume's size":       {`"mounts": [{"target": "/a", "type": "volume", "source": "d", "size": "1Mi"}]`, []string{"mounts[0].size: must not be given here: source belongs to type: bind and volume, size to type: tmpfs (mount.tmpfs)"}},
		"tmpfs source":        {`"mounts": [{"target": "/a", "type": "tmpfs", "source": "d"}]`, []string{"mounts[0].source: must not be given here: source belongs to type: bind and volume, size to type: tmpfs (mount.tmpfs)"}},
		"other mount":         {`"mounts": [{"target": "/a", "type": "nfs", "source": "d"}]`, []string{"mounts[0].type: must be bind, volume or tmpfs (string.in)"}},
		"no source":           {`"mounts": [{"target": "/a"}]`, []string{"mounts[0]: needs a source, or type: tmpfs (mount.bind)"}},
		"probes":              {`"probes": {"startup": {"http": {"port": 8080, "path": "/healthz?x=1", "scheme": "https", "host": "a.example:8080", "headers": {"X-Probe": "a b"}}, "initial_delay": "0", "period": "100ms", "failures": 300}, "ready": {"tcp": {"port": 1}, "successes": 3}, "live": {"exec": {"command": ["cat", ""]}, "timeout": "10ms", "successes": 1}}, "hooks": {"pre_stop": ["sh", "-c", "sleep 1"]}`, nil},
		"probes of a job":     {`"kind": "job", "probes": {"startup": {"grpc": {"port": 65535, "service": "x"}}, "ready": {"tcp": {"port": 1}}, "live": {"tcp": {"port": 1}}}`, []string{"probes.ready: must not be given for a job, which nothing is sent to: ready belongs to kind: service; startup and live suit a job (probe.job)"}},
		"a probe of nothing":  {`"probes": {"ready": {"period": "1s"}}`, []string{"probes.ready: must have one of exec, http, tcp and grpc (message.oneof)"}},
		"a probe of two ways": {`"probes": {"live": {"tcp": {"port": 1}, "exec": {"command": ["true"]}}}`, []string{"probes.live.tcp: must not be given beside exec: only one of exec, http, tcp and grpc can be (message.oneof)"}},
		"ports":               {`"probes": {"startup": {"tcp": {}}, "ready": {"http": {"port": 65536}}, "live": {"grpc": {"port": 0}}}`, []string{"probes.startup.tcp.port: is required", "probes.ready.http.port: must be", "probes.live.grpc.port: must be"}},
		"times of probes": {`"probes": {"startup": {"tcp": {"port": 1}, "period": "0s", "timeout": "1ms", "successes": 2, "failures": 0}, "live": {"tcp": {"port": 1}, "successes": 2, "initial_delay": "-1s", "period": "99999999h"}}`, []string{
			"probes.startup.failures: must be", "probes.live.initial_delay: must be a duration", "probes.startup.period: must be longer than 0", "probes.startup.timeout: must be at least 10ms (duration.least)",
			"probes.startup.successes: must be 1, or left out: only a ready probe may want more successes in a row (probe.successes)", "probes.live.period: must be a duration below 292 years", "probes.live.successes: must be 1"}},
		"requests of probes": {`"probes": {"ready": {"http": {"port": 1, "path": "/a b", "scheme": "ftp", "host": "a/b", "headers": {"Host": "x", "a b": "", "X": "a\r\nb"}}}}`, []string{
			"probes.ready.http.path: must have no spaces", "probes.ready.http.scheme: must be http or https", "probes.ready.http.host: must be a host",
			`probes.ready.http.headers["Host"]: the name must not be Host: that is the field host`, `probes.ready.http.headers["X"]: must have no control characters`, `probes.ready.http.headers["a b"]: the name must be that of a header`}},
		"no request of probes": {`"probes": {"ready": {"http": {"port": 1, "path": "/100%", "host": "a:b:c"}}}`, []string{"probes.ready.http.path: must be a path as in a URL", "probes.ready.http.host: must be a host"}},
		"commands of probes": {`"probes": {"ready": {"exec": {"command": []}}, "live": {"exec": {"command": [""]}}}, "hooks": {"pre_stop": ["", "x"]}`, []string{
			"probes.ready.exec.command: must", "probes.live.exec.command[0]: must name a program (argv.program)", "hooks.pre_stop[0]: must name a program"}},
		"labels": {`"labels": {"": "x"}`, []string{`labels[""]: the name must be at least 1 character`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			text := `{"app": "a", "function": "f", "image": {"ref": "busybox"}`
			if strings.Contains(tt.fields, `"image":`) {
				text = `{"app": "a", "function": "f"`
			}
			if tt.fields != "" {
				text += ", " + tt.fields
			}
			err := launchspec.Validate(spec(t, text+"}"))
			if tt.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			checkProblems(t, err, tt.want...)
		})
	}
}

// noNames are the problems of a range of devices whose names are none.
func noNames(first, last int) (want []string) {
	for i := first; i <= last; i++ {
		want = append(want, fmt.Sprintf("resources.devices[%d]: must be the name of a CDI device", i))
	}
	return want
}

func TestValidateEmpty(t *testing.T) {
	checkProblems(t, launchspec.Validate(&purserv1.LaunchSpec{}),
		"app: is required (required)", "function: is required (required)", "image: is required (required)")
}

// Requests hold specs, and rules of their own.
func TestCheckRequests(t *testing.T) {
	bad := spec(t, `{"app": "a", "function": "f", "image": {"ref": "A"}, "mounts": [{"target": "/a"}], "retries": 1}`)
	checkProblems(t, launchspec.Check(&purserv1.LaunchRequest{Spec: bad}),
		"spec.retries: must not be given for a service", "spec.mounts[0]: needs a source", "spec.image.ref: must be lower case")
	checkProblems(t, launchspec.Check(&purserv1.DeployRequest{App: "a", Specs: []*purserv1.LaunchSpec{spec(t, `{"app": "a", "function": "f", "image": {"ref": "b"}}`), bad}}),
		"specs[1].retries: must not", "specs[1].mounts[0]: needs a source", "specs[1].image.ref: must be lower case")
	checkProblems(t, launchspec.Check(&purserv1.LaunchRequest{}), "spec: is required (required)")
	checkProblems(t, launchspec.Check(&purserv1.PutRequest{Name: "no spaces", Data: map[string][]byte{"1": nil}}),
		"name: must be 1 to 64", `data["1"]: the name must be letters`)
	if err := launchspec.Check(&purserv1.ListRequest{}); err != nil {
		t.Error(err)
	}
}

// Every rule of every message compiles, and says what it wants in words.
func TestRulesOfAllMessages(t *testing.T) {
	for _, file := range []protoreflect.FileDescriptor{
		purserv1.File_purser_v1_spec_proto, purserv1.File_purser_v1_workloads_proto, purserv1.File_purser_v1_apps_proto,
		purserv1.File_purser_v1_secrets_proto, purserv1.File_purser_v1_images_proto, purserv1.File_purser_v1_node_proto,
	} {
		for i := range file.Messages().Len() {
			checkMessageRules(t, file.Messages().Get(i))
		}
	}
}
