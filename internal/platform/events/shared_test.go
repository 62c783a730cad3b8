package events_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"stoa/internal/platform/events"
	"stoa/internal/platform/redis"
	"stoa/internal/platform/redis/redistest"
)

// hub is the hub of an instance that shares its wake-ups.
func hub(t *testing.T, url, instance string) (*events.Hub, *redis.Client) {
	t.Helper()
	c, err := redis.Open(redis.Options{URL: url, Now: time.Now, Tracking: true})
	if err != nil {
		t.Fatal(err)
	}
	h := events.NewHub()
	stop := h.Share(c, instance)
	t.Cleanup(func() {
		stop()
		c.Close()
	})
	return h, c
}

// reaches publishes until the subscriber is woken: a wake-up may be lost while an
// instance is connecting, or the machine is busy.
func reaches(t *testing.T, from *events.Hub, topic string, wake <-chan struct{}) {
	t.Helper()
	for range 600 {
		from.Publish(topic)
		select {
		case <-wake:
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Fatalf("%s was never woken", topic)
}

func TestOtherInstancesAreWoken(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		for name, url := range map[string]string{"plain": redistest.Start(t).URL(), "cluster": redistest.Cluster(t).URL()} {
			t.Run(name, func(t *testing.T) {
				a, _ := hub(t, url, "a")
				b, _ := hub(t, url, "b")
				c, _ := hub(t, url, "c")
				wakeB, stopB := b.Subscribe("x")
				defer stopB()
				wakeC, stopC := c.Subscribe("x")
				defer stopC()
				reaches(t, a, "x", wakeB)
				reaches(t, a, "x", wakeC)
				reaches(t, c, "x", wakeB)
			})
		}
	})
}

// A burst of a thousand topics is told whole, and in far fewer messages.
func TestABurstIsFewMessages(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		server := redistest.Start(t)
		a, _ := hub(t, server.URL(), "a")
		b, _ := hub(t, server.URL(), "b")
		ready, stop := b.Subscribe("ready")
		defer stop()
		reaches(t, a, "ready", ready)

		const topics = 1000
		wakes := make([]<-chan struct{}, topics)
		for i := range wakes {
			wake, stop := b.Subscribe(fmt.Sprint(i))
			defer stop()
			wakes[i] = wake
		}
		before := published(t, server)
		for i := range topics {
			a.Publish(fmt.Sprint(i))
		}
		for i, wake := range wakes {
			wasReached(t, a, fmt.Sprint(i), wake)
		}
		if sent := published(t, server) - before; sent > topics/2 {
			t.Errorf("%d topics were %d messages", topics, sent)
		}
	})
}

// wasReached is reaches for what is published already.
func wasReached(t *testing.T, from *events.Hub, topic string, wake <-chan struct{}) {
	t.Helper()
	select {
	case <-wake:
	case <-time.After(time.Second): // one message may be lost to a busy machine
		reaches(t, from, topic, wake)
	}
}

func published(t *testing.T, server *redistest.Server) (calls int) {
	t.Helper()
	stats := server.Do("INFO commandstats")
	for line := range strings.Lines(stats) {
		_, _ = fmt.Sscanf(line, "cmdstat_publish:calls=%d,", &calls)
	}
	return calls
}

func TestWakeUpsComeBackAfterAnOutage(t *testing.T) {
	redistest.Each(t, func(t *testing.T) {
		server := redistest.Start(t)
		a, _ := hub(t, server.URL(), "a")
		b, client := hub(t, server.URL(), "b")
		wake, stop := b.Subscribe("x")
		defer stop()
		reaches(t, a, "x", wake)
		server.Kill()
		for i := range 10_000 { // nobody takes them, and nobody waits
			a.Publish(fmt.Sprint(i))
		}
		here, stopHere := a.Subscribe("x")
		defer stopHere()
		a.Publish("x")
		<-here // inside the instance nothing changes
		server.Restart()
		select { // whoever waits is woken, since nobody knows what was missed
		case <-wake:
		case <-time.After(time.Minute):
			t.Error("nobody was woken after the outage")
		}
		reaches(t, a, "x", wake)
		if err := client.Healthy(t.Context()); err != nil {
			t.Errorf("healthy = %v", err)
		}
	})
}
