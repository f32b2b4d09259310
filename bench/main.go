// Command bench measures what Stile costs beside what would run without it, and
// judges the figures: `go run ./bench`.
//
// Everything under test is a process of its own on this machine: the upstream, a
// bare httputil.ReverseProxy, and the real `stile serve`, with authentication,
// policy and the audit on. They take turns (A B A B …) under the same closed-loop
// load of raw HTTP/1.1 connections, which compares every byte of every answer.
// A figure is the median, over the rounds, of the ratio within one round, so that
// what else the machine does touches both sides. It exits with 1 when a figure
// misses what it must reach.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// options are the flags.
type options struct {
	rounds       int
	round        time.Duration
	only         *regexp.Regexp
	streams      []int
	stdioStreams []int
	rules        int
	tokens       int
	audit        string
	binary       string
	profile      string
	verbose      bool
}

func main() {
	if role := os.Getenv(roleVariable); role != "" {
		if err := play(role); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", role+":", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parseFlags() (*options, error) {
	o := &options{}
	only := flag.String("only", "", "run the sections whose name matches this regular expression alone")
	stdioStreams := flag.String("stdio-streams", "1000,10000", "how many idle streams of a command to measure, with commas between")
	streams := flag.String("streams", "1000,4000", "how many idle streams to measure, with commas between")
	flag.IntVar(&o.rounds, "rounds", 7, "rounds of each section")
	flag.DurationVar(&o.round, "round", 500*time.Millisecond, "how long each side is loaded in a round")
	flag.IntVar(&o.rules, "rules", 20, "rules of the small policy")
	flag.IntVar(&o.tokens, "tokens", 10_000, "distinct tokens of the many-tokens side")
	flag.StringVar(&o.audit, "audit", "", "where the gateway writes its audit; default a file in a temporary folder")
	flag.StringVar(&o.binary, "binary", "", "the stile to measure; default: built from this module")
	flag.StringVar(&o.profile, "profile", "", "write CPU and allocation profiles of the gateway, by section, into this folder")
	flag.BoolVar(&o.verbose, "v", false, "print the figures of every side")
	flag.Parse()
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	if o.streams, err = numbers(*streams); err != nil {
		return nil, fmt.Errorf("-streams: %w", err)
	}
	if o.stdioStreams, err = numbers(*stdioStreams); err != nil {
		return nil, fmt.Errorf("-stdio-streams: %w", err)
	}
	if o.rounds < 1 || o.round <= 0 || o.rules < 1 || o.tokens < 1 || flag.NArg() > 0 {
		return nil, errors.New("rounds, round, rules and tokens must be positive, and there are no arguments")
	}
	return o, nil
}

func numbers(list string) (all []int, err error) {
	for field := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil || n < 1 {
			return nil, fmt.Errorf("expected numbers, found %q", field)
		}
		all = append(all, n)
	}
	return all, nil
}

// sections are run in this order.
var sections = []struct {
	name string
	run  func(*bench) error
}{
	{"calls", calls},
	{"latency", latency},
	{"introspection", introspection},
	{"bodies", bodies},
	{"events", events},
	{"streams", streams},
	{"tokens", cachedTokens},
	{"refusals", refusals},
	{"start", start},
	{"stdio-calls", stdioCalls},
	{"stdio-latency", stdioLatency},
	{"stdio-streams", stdioStreams},
	{"stdio-start", stdioStart},
}

func run(ctx context.Context) error {
	o, err := parseFlags()
	if err != nil {
		return err
	}
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	began := time.Now()
	load := loadAverage()
	for _, s := range sections {
		if !o.only.MatchString(s.name) {
			continue
		}
		fmt.Fprintln(os.Stderr, "bench:", s.name)
		b.section = s.name
		if err := s.run(b); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	b.table.add(row{what: "broken or wrong answers through Stile", value: float64(b.broken), unit: "", must: 0, aim: 0, most: true})
	b.table.print(os.Stdout)
	fmt.Printf("\n%d calls in %s; broken through the bare proxy: %d. Load average before: %s, after: %s.\n",
		b.requests, time.Since(began).Round(time.Second), b.brokenBare, load, loadAverage())
	if b.firstError != nil {
		fmt.Println("first broken answer through Stile:", b.firstError)
	}
	if missed := b.table.missed(); missed > 0 {
		return fmt.Errorf("%d figures miss what they must reach", missed)
	}
	return nil
}
