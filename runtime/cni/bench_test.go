package cni_test

import (
	"testing"
)

// BenchmarkClaim is what a launch waits for when none is ready.
func BenchmarkClaim(b *testing.B) {
	n := newNode(b, nil)
	n.cfg.Pool = 0
	n.open()
	for b.Loop() {
		n.claim("a")
		b.StopTimer()
		n.release("a")
		b.StartTimer()
	}
}

func BenchmarkRelease(b *testing.B) {
	n := newNode(b, nil)
	n.cfg.Pool = 0
	n.open()
	for b.Loop() {
		b.StopTimer()
		n.claim("a")
		b.StartTimer()
		n.release("a")
	}
}

// BenchmarkReady is what it waits for when one is.
func BenchmarkReady(b *testing.B) {
	n := newNode(b, nil)
	n.cfg.Pool = 64
	n.open()
	if err := n.Check(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.StopTimer()
		n.awaitReady(64)
		b.StartTimer()
		n.claim("a")
		b.StopTimer()
		n.release("a")
		b.StartTimer()
	}
}
