// Each building block once, with the released Dapr SDK for Go.
//
// The app is both ends: it serves calls, events and bindings, and causes them through its sidecar; it is served over HTTP, or over
// gRPC when its sidecar was started with `--app-protocol grpc`. It prints one line per feature and ends with 0, or with
// the reason at the first thing that is not as it should be.
package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/dapr/go-sdk/service/common"
	"github.com/dapr/go-sdk/service/grpc"
	"github.com/dapr/go-sdk/service/http"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const patience = 30 * time.Second

type app struct {
	client.Client
	id, topic string
	orders    chan order
	ticks     chan string
}

type order struct{ ID int }

func main() {
	a := &app{id: os.Getenv("APP_ID"), topic: "go-" + os.Getenv("APP_PROTOCOL"), orders: make(chan order, 100), ticks: make(chan string, 100)}
	address := "127.0.0.1:" + os.Getenv("APP_PORT")
	service := http.NewService(address)
	if os.Getenv("APP_PROTOCOL") == "grpc" {
		service = must(grpc.NewService(address))
	}
	check(service.AddServiceInvocationHandler("shout", shout))
	check(service.AddTopicEventHandler(&common.Subscription{PubsubName: "pubsub", Topic: a.topic, Route: "/orders"}, a.hear))
	check(service.AddBindingInvocationHandler("tick", a.tick))
	go func() { check(service.Start()) }()
	a.Client = must(client.NewClient())
	for _, feature := range []struct {
		name string
		try  func(context.Context)
	}{
		{"health", a.health}, {"metadata", a.metadata}, {"state", a.state}, {"transactions", a.transactions},
		{"invocation", a.invocation}, {"pubsub", a.pubsub}, {"streaming", a.streaming}, {"bindings", a.bindings},
		{"secrets", a.secrets}, {"configuration", a.configuration}, {"lock", a.lock},
	} {
		log.SetPrefix("failed " + feature.name + ": ")
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		feature.try(ctx)
		cancel()
		fmt.Println("ok", feature.name)
	}
}

func shout(_ context.Context, in *common.InvocationEvent) (*common.Content, error) {
	return &common.Content{Data: bytes.ToUpper(in.Data), ContentType: "text/plain"}, nil
}

func (a *app) hear(_ context.Context, event *common.TopicEvent) (retry bool, err error) {
	var heard order
	if err := event.Struct(&heard); err != nil {
		return false, err
	}
	a.orders <- heard
	return false, nil
}

func (a *app) tick(_ context.Context, event *common.BindingEvent) ([]byte, error) {
	a.ticks <- string(event.Data)
	return nil, nil
}

func (a *app) health(ctx context.Context) { check(a.Wait(ctx, patience)) }

func (a *app) metadata(ctx context.Context) {
	check(a.SetMetadata(ctx, "speaks", "go"))
	seen := must(a.GetMetadata(ctx))
	same(seen.ID, a.id)
	same(seen.ExtendedMetadata["speaks"], "go")
	names := map[string]bool{}
	for _, component := range seen.RegisteredComponents {
		names[component.Name] = true
	}
	same(names["statestore"], true)
}

func (a *app) state(ctx context.Context) {
	check(a.SaveState(ctx, "statestore", "one", []byte("1"), nil))
	first := must(a.GetState(ctx, "statestore", "one", nil))
	same(string(first.Value), "1")
	check(a.SaveStateWithETag(ctx, "statestore", "one", []byte("2"), first.Etag, nil))
	old := a.SaveStateWithETag(ctx, "statestore", "one", []byte("3"), first.Etag, nil)
	same(status.Code(old), codes.Aborted)
	two := &client.SetStateItem{Key: "two", Value: []byte("b")}
	three := &client.SetStateItem{Key: "three", Value: []byte("c")}
	check(a.SaveBulkState(ctx, "statestore", two, three))
	same(a.values(ctx, "one", "two", "three"), "2 b c")
	check(a.DeleteState(ctx, "statestore", "one", nil))
	check(a.DeleteBulkState(ctx, "statestore", []string{"three"}, nil))
	same(a.values(ctx, "one", "two", "three"), " b ")
}

// The values of these keys, separated by blanks.
func (a *app) values(ctx context.Context, keys ...string) string {
	values := map[string]string{}
	for _, item := range must(a.GetBulkState(ctx, "statestore", keys, nil, 10)) {
		values[item.Key] = string(item.Value)
	}
	var found []string
	for _, key := range keys {
		found = append(found, values[key])
	}
	return strings.Join(found, " ")
}

func (a *app) transactions(ctx context.Context) {
	check(a.ExecuteStateTransaction(ctx, "statestore", nil, []*client.StateOperation{
		{Type: client.StateOperationTypeUpsert, Item: &client.SetStateItem{Key: "four", Value: []byte("d")}},
		{Type: client.StateOperationTypeDelete, Item: &client.SetStateItem{Key: "two"}},
	}))
	same(a.values(ctx, "four", "two"), "d ")
}

func (a *app) invocation(ctx context.Context) {
	hello := &client.DataContent{Data: []byte("hello"), ContentType: "text/plain"}
	same(string(must(a.InvokeMethodWithContent(ctx, a.id, "shout", "post", hello))), "HELLO")
}

func (a *app) pubsub(ctx context.Context) {
	publish := func() { check(a.PublishEvent(ctx, "pubsub", a.topic, order{1})) }
	// Events of before the sidecar has subscribed need not arrive; those of earlier runs may.
	publish()
	for arrived := false; !arrived; {
		select {
		case heard := <-a.orders:
			arrived = heard == order{1}
		case <-time.After(time.Second):
			publish()
		case <-ctx.Done():
			panic("no event came")
		}
	}
	check(a.PublishEvents(ctx, "pubsub", a.topic, []any{order{2}, order{3}}).Error)
	for left := map[order]bool{{2}: true, {3}: true}; len(left) > 0; {
		delete(left, receive(ctx, a.orders))
	}
}

func (a *app) streaming(ctx context.Context) {
	subscription := must(a.Subscribe(ctx, client.SubscriptionOptions{PubsubName: "pubsub", Topic: "go-stream"}))
	check(a.PublishEvent(ctx, "pubsub", "go-stream", "hello", client.PublishEventWithContentType("text/plain")))
	message := must(subscription.Receive())
	same(string(message.RawData), "hello")
	check(message.Success())
	check(subscription.Close())
}

func (a *app) bindings(ctx context.Context) {
	receive(ctx, a.ticks)
	file := map[string]string{"fileName": "go.txt"}
	invoke := func(operation, data string) string {
		request := &client.InvokeBindingRequest{Name: "files", Operation: operation, Data: []byte(data), Metadata: file}
		return string(must(a.InvokeBinding(ctx, request)).Data)
	}
	invoke("create", "hello")
	same(invoke("get", ""), "hello")
	invoke("delete", "")
}

func (a *app) secrets(ctx context.Context) {
	same(must(a.GetSecret(ctx, "vault", "greeting", nil))["greeting"], "hello")
	same(must(a.GetBulkSecret(ctx, "vault", nil))["database:password"]["database:password"], "not a real one")
}

func (a *app) configuration(ctx context.Context) {
	setColour("red")
	same(must(a.GetConfigurationItem(ctx, "configstore", "colour")).Value, "red")
	told := make(chan string, 10)
	tell := func(_ string, items map[string]*client.ConfigurationItem) { told <- items["colour"].Value }
	id := must(a.SubscribeConfigurationItems(ctx, "configstore", []string{"colour"}, tell))
	setColour("blue")
	same(receive(ctx, told), "blue")
	check(a.UnsubscribeConfigurationItems(ctx, "configstore", id))
}

// Writes a value that the app is then told of; the SDKs themselves can only read configuration.
func setColour(value string) {
	words := strings.Fields(cmp.Or(os.Getenv("SET_COLOUR"), "outrigger configuration set colour"))
	check(exec.Command(words[0], append(words[1:], value)...).Run())
}

func (a *app) lock(ctx context.Context) {
	try := func(owner string) bool {
		request := &client.LockRequest{ResourceID: "tray", LockOwner: owner, ExpiryInSeconds: 60}
		return must(a.TryLockAlpha1(ctx, "lockstore", request)).Success
	}
	unlock := func(owner string) string {
		return must(a.UnlockAlpha1(ctx, "lockstore", &client.UnlockRequest{ResourceID: "tray", LockOwner: owner})).Status
	}
	same(try("ann"), true)
	same(try("bob"), false)
	same(unlock("bob"), "LOCK_BELONGS_TO_OTHERS")
	same(unlock("ann"), "SUCCESS")
}

func receive[T any](ctx context.Context, from chan T) T {
	select {
	case value := <-from:
		return value
	case <-ctx.Done():
		panic("nothing came")
	}
}

func same[T comparable](found, expected T) {
	if found != expected {
		log.Panicf("%v instead of %v", found, expected)
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		log.Panic(err)
	}
}
