package redact

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"testing"
)

// keys makes API keys as they are usual: with a prefix that many share.
func keys(n int) []string {
	const characters = common + "-_"
	random := rand.New(rand.NewPCG(1, 2))
	prefixes := []string{"sk-proj-", "ghp_", "AKIA", "xoxb-", "", "", ""}
	var all []string
	for i := range n {
		key := []byte(prefixes[i%len(prefixes)])
		for length := 20 + random.IntN(44); len(key) < length; {
			key = append(key, characters[random.IntN(len(characters))])
		}
		all = append(all, string(key))
	}
	return all
}

func values(keys []string) []Value {
	var all []Value
	for i, key := range keys {
		all = append(all, value(fmt.Sprintf("secret-%d", i), key))
	}
	return all
}

// logText is what servers write: times, levels, paths, hashes, JSON, base64.
func logText(size int) []byte {
	random := rand.New(rand.NewPCG(3, 4))
	var b bytes.Buffer
	for i := 0; b.Len() < size; i++ {
		at := fmt.Sprintf("2026-09-%02dT%02d:%02d:%02d.%06dZ", i%28+1, i%24, i%60, i*7%60, random.IntN(1e6))
		switch i % 5 {
		case 0:
			fmt.Fprintf(&b, "%s INFO  http.server: GET /api/v1/users/%d/orders?page=%d 200 %dms\n", at, random.IntN(1e6), random.IntN(50), random.IntN(900))
		case 1:
			fmt.Fprintf(&b, `{"time":"%s","level":"info","msg":"request done","trace_id":"%016x%016x","status":200,"path":"/v1/chat/completions"}`+"\n", at, random.Uint64(), random.Uint64())
		case 2:
			fmt.Fprintf(&b, "%s WARN  worker-%d: retrying in %ds: connection refused by 10.0.%d.%d:5432\n", at, random.IntN(16), random.IntN(60), random.IntN(256), random.IntN(256))
		case 3:
			fmt.Fprintf(&b, "Traceback (most recent call last):\n  File \"/app/rag/answer.py\", line %d, in answer\n    return self.index.search(question, top_k=8)\n", random.IntN(900))
		case 4:
			var digest [24]byte
			for i := range digest {
				digest[i] = byte(random.Uint32())
			}
			fmt.Fprintf(&b, "%s DEBUG cache: etag=%s sha256:%016x%016x%016x%016x\n", at, base64.StdEncoding.EncodeToString(digest[:]), random.Uint64(), random.Uint64(), random.Uint64(), random.Uint64())
		}
	}
	return b.Bytes()[:size]
}

// beginnings is text made of the beginnings of values, each at least so long.
func beginnings(keys []string, shortest, size int) []byte {
	random := rand.New(rand.NewPCG(5, 6))
	var b []byte
	for len(b) < size {
		key := keys[random.IntN(len(keys))]
		b = append(b, key[:min(shortest+random.IntN(len(key)-shortest), len(key)-1)]...)
	}
	return b[:size]
}

func BenchmarkAppend(b *testing.B) {
	const size = 1 << 20
	typical := keys(100)
	like := keys(100)
	for i := range like { // all with the same beginning
		like[i] = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9." + like[i]
	}
	short := append(keys(95), "secret", "hunter2", "12345678", "password", "changeme")
	nested := []string{}
	for i := range 100 {
		nested = append(nested, string(bytes.Repeat([]byte("a"), 6+10*i)))
	}
	for _, c := range []struct {
		name  string
		keys  []string
		text  []byte
		chunk int
	}{
		{"log", typical, logText(size), 32 << 10},
		{"log/by 4 KiB", typical, logText(size), 4 << 10},
		{"log/by 100 bytes", typical, logText(size), 100},
		{"log/short values", short, logText(size), 32 << 10},
		{"log/1000 values", keys(1000), logText(size), 32 << 10},
		{"values", typical, []byte(joined(typical, " ", size)), 32 << 10},
		{"beginnings", typical, beginnings(typical, 5, size), 32 << 10},
		{"beginnings/by 100 bytes", typical, beginnings(typical, 5, size), 100},
		{"beginnings/all alike", like, beginnings(like, 30, size), 32 << 10},
		{"periodic", []string{joined([]string{"ab"}, "", 1000)}, []byte(joined([]string{"ab"}, "", size)), 32 << 10},
		{"one letter", nested, bytes.Repeat([]byte("a"), size), 32 << 10},
		{"one letter, nearly", nested, bytes.Repeat(append(bytes.Repeat([]byte("a"), 255), 'b'), size/256), 32 << 10},
	} {
		b.Run(c.name, func(b *testing.B) {
			m := Compile(values(c.keys))
			s := m.Stream()
			out := make([]byte, 0, 64<<10)
			b.SetBytes(int64(len(c.text)))
			for b.Loop() {
				for text := c.text; len(text) > 0; {
					n := min(c.chunk, len(text))
					out = s.Append(out[:0], text[:n])
					text = text[n:]
				}
			}
		})
	}
}

func joined(all []string, between string, size int) string {
	var b []byte
	for i := 0; len(b) < size; i++ {
		b = append(append(b, all[i%len(all)]...), between...)
	}
	return string(b)
}

func BenchmarkCompile(b *testing.B) {
	all := values(keys(100))
	for b.Loop() {
		Compile(all)
	}
}
