package events_test

import (
	"testing"

	"stoa/internal/platform/events"
)

func pending(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestSubscribersOfATopicAreWoken(t *testing.T) {
	hub := events.NewHub()
	a, stopA := hub.Subscribe("x")
	b, stopB := hub.Subscribe("x")
	other, stopOther := hub.Subscribe("y")
	defer stopOther()

	hub.Publish("x")
	hub.Publish("x")
	if !pending(a) || pending(a) {
		t.Error("two publications before a receive are not one wake-up")
	}
	if !pending(b) || pending(other) {
		t.Error("a wake-up missed its topic")
	}
	stopA()
	hub.Publish("x")
	if pending(a) || !pending(b) {
		t.Error("a stopped subscriber was woken, or another was not")
	}
	stopB()
	hub.Publish("x")
}
