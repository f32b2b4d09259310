package era

import (
	"context"
	"sync"
)

// desk keeps what is under way for a client: which requests, so that they can be
// cancelled, and every goroutine, so that none is left behind.
type desk struct {
	ctx  context.Context
	stop context.CancelFunc

	mu      sync.Mutex
	closed  bool
	running map[string]context.CancelFunc // requests, by the key of their id
	work    sync.WaitGroup
}

func (d *desk) open() {
	d.ctx, d.stop = context.WithCancel(context.Background())
	d.running = map[string]context.CancelFunc{}
}

// do runs f with the values of ctx until the desk is closed. It reports false when
// that has happened.
func (d *desk) do(ctx context.Context, f func(context.Context)) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.work.Go(func() {
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		defer context.AfterFunc(d.ctx, cancel)()
		f(ctx)
	})
	return true
}

// begin answers a request in the background, until cancel is called with its id.
func (d *desk) begin(ctx context.Context, p *packet, emit func([]byte, string), serve func(context.Context, *packet) []byte) {
	key := p.key()
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d.mu.Lock()
	_, double := d.running[key]
	if !double {
		d.running[key] = cancel
	}
	d.mu.Unlock()
	if double {
		cancel()
		emit((&failure{code: codeInvalidRequest, text: "a request with this id is still under way"}).line(p.id), "")
		return
	}
	if !d.do(ctx, func(ctx context.Context) {
		inner, stop := context.WithCancel(ctx)
		defer stop()
		defer context.AfterFunc(own, stop)()
		answer := serve(inner, p)
		d.mu.Lock()
		delete(d.running, key)
		d.mu.Unlock()
		cancel()
		if answer != nil {
			emit(answer, key)
		}
	}) {
		cancel()
		d.mu.Lock()
		delete(d.running, key)
		d.mu.Unlock()
	}
}

// cancel ends a request; nobody waits for its answer.
func (d *desk) cancel(key string) {
	d.mu.Lock()
	cancel := d.running[key]
	d.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

func (d *desk) close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.stop()
}

// wait returns when nothing runs any more.
func (d *desk) wait() { d.work.Wait() }
