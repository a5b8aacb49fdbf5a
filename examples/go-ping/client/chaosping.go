// Command chaosping cuts and kills slaves of the job go-ping, and checks that the master notices.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	pb "syndicate.example/gen/syndicate/v1"
)

// deadline is for the master to answer, members build their program first; for pings to come or to cease; and
// for the result to be handed over. The plan as a whole has several of it.
const deadline = 100 * time.Second

// watcher asks the master how many pings came from a slave.
type watcher struct {
	client http.Client
	url    string
}

// counts asks once.
func (w *watcher) counts() (map[string]int, error) {
	answer, err := w.client.Get(w.url)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	counts := map[string]int{}
	err = json.NewDecoder(answer.Body).Decode(&counts)
	return counts, err
}

// count asks again while nobody listens yet, or the master has no time.
func (w *watcher) count(slave string) (int, error) {
	until := time.Now().Add(deadline)
	for {
		counts, err := w.counts()
		if err == nil || time.Now().After(until) {
			return counts[slave], err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// grows waits until so many more pings came than there are now.
func (w *watcher) grows(slave string, more int) error {
	start, err := w.count(slave)
	if err != nil {
		return err
	}
	for until := time.Now().Add(deadline); time.Now().Before(until); {
		now, err := w.count(slave)
		if err != nil {
			return err
		}
		if now >= start+more {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("%s did not ping %d times within %s", slave, more, deadline)
}

// settled waits until the count stands still: a ping that was under way may be counted after the cut.
func (w *watcher) settled(slave string) (int, error) {
	last, until := -1, time.Now().Add(deadline)
	for time.Now().Before(until) {
		now, err := w.count(slave)
		if err != nil || now == last {
			return now, err
		}
		last = now
		time.Sleep(200 * time.Millisecond)
	}
	return 0, fmt.Errorf("pings of %s came through the cut for %s", slave, deadline)
}

// plan breaks the first slave in each way. It returns how many pings came through the cut: none should.
func plan(ctx context.Context, chaos pb.ChaosControlClient, w *watcher, slave string) (int, error) {
	if err := w.grows(slave, 3); err != nil {
		return 0, err
	}
	if _, err := chaos.Disconnect(ctx, &pb.DisconnectRequest{RequestId: id(), Ip: slave}); err != nil {
		return 0, err
	}
	before, err := w.settled(slave)
	if err != nil {
		return 0, err
	}
	time.Sleep(500 * time.Millisecond) // the span that is measured: ten pings' time
	after, err := w.count(slave)
	if err != nil {
		return 0, err
	}
	if _, err := chaos.Reconnect(ctx, &pb.ReconnectRequest{RequestId: id(), Ip: slave}); err != nil {
		return 0, err
	}
	if err := w.grows(slave, 3); err != nil {
		return 0, err
	}
	killed, err := chaos.Kill(ctx, &pb.KillRequest{RequestId: id(), Ip: slave})
	if err != nil {
		return 0, err
	}
	revived, err := chaos.Revive(ctx, &pb.ReviveRequest{RequestId: id(), Ip: slave})
	if err != nil {
		return 0, err
	}
	log.Printf("killed %s (%d processes), revived as generation %d", slave, killed.Processes, revived.Generation)
	return after - before, w.grows(slave, 3)
}

// id makes a request id of the form of a UUID from the kernel's own.
func id() string {
	uuid, err := os.ReadFile("/proc/sys/kernel/random/uuid")
	if err != nil {
		log.Fatal(err)
	}
	return strings.TrimSpace(string(uuid))
}

func verdict(through int, err error) *pb.Result {
	score := 0.0
	result := &pb.Result{Outcome: pb.Outcome_OUTCOME_FAIL, Score: &score}
	result.Metrics = map[string]float64{"pings_through_the_cut": float64(through)}
	switch {
	case err != nil:
		result.Outcome, result.Score, result.Text = pb.Outcome_OUTCOME_UNKNOWN, nil, err.Error()
	case through > 0:
		result.Text = fmt.Sprintf("%d pings came through the cut", through)
	default:
		score = 1
		result.Outcome, result.Text = pb.Outcome_OUTCOME_PASS, "no ping came through the cut, and all came back"
	}
	return result
}

func main() {
	log.SetFlags(0)
	slaves := strings.Split(os.Getenv("SYNDICATE_SLAVES"), ",")
	if slaves[0] == "" {
		log.Fatal("there is no slave to break: submit with -n 2 or more")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*deadline)
	defer cancel()
	// The socket is the credential; its name has the form that gRPC dials.
	link, err := grpc.DialContext(ctx, os.Getenv("SYNDICATE_CHAOS"), grpc.WithInsecure(), grpc.WithBlock())
	if err != nil {
		log.Fatal(err)
	}
	defer link.Close()
	chaos := pb.NewChaosControlClient(link)
	w := &watcher{http.Client{Timeout: 5 * time.Second}, "http://" + os.Getenv("SYNDICATE_MASTER") + ":7100/counts"}
	result := verdict(plan(ctx, chaos, w, slaves[0]))
	log.Print(result.Text)
	// A context of its own: where the plan's time ran out, that is the result, and must not be lost with it.
	last, done := context.WithTimeout(context.Background(), deadline)
	defer done()
	if _, err := chaos.Finish(last, &pb.FinishRequest{RequestId: id(), Result: result}); err != nil {
		log.Fatal(err)
	}
}
