package main

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a time span as it is written in a file, such as "30s" or "24h".
// Zero means that the default counts; negative, that it was switched off.
type Duration time.Duration

// switchedOff is what "off" reads as.
const switchedOff = Duration(-1)

var errDuration = errors.New(`expected a time span above zero, such as "30s", "5m" or "24h"`)

// UnmarshalText reads a span above zero, or "off". Whether a key may be "off" is
// for the decoder to say.
func (d *Duration) UnmarshalText(text []byte) error {
	if string(text) == "off" {
		*d = switchedOff
		return nil
	}
	span, err := time.ParseDuration(string(text))
	if err != nil || span <= 0 {
		return errDuration
	}
	*d = Duration(span)
	return nil
}

// Count is how many of something there may be. Zero means that the default counts;
// negative, that there is no limit.
type Count int

var errCount = errors.New(`expected a whole number above zero, or "off"`)

// UnmarshalText reads a number above zero, or "off".
func (c *Count) UnmarshalText(text []byte) error {
	if string(text) == "off" {
		*c = -1
		return nil
	}
	n, err := strconv.Atoi(string(text))
	if err != nil || n <= 0 {
		return errCount
	}
	*c = Count(n)
	return nil
}

// Size is a number of bytes. Zero means that the default counts.
type Size int64

// maxSize is the largest Size that can be written.
const maxSize = 64 << 20

var errSize = errors.New(`expected a size from 1 to 64MiB, such as 65536, "512KiB" or "4MiB"`)

// UnmarshalText reads bytes, or a number with KiB or MiB.
func (s *Size) UnmarshalText(text []byte) error {
	number, unit := string(text), int64(1)
	for suffix, factor := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20} {
		if rest, ok := strings.CutSuffix(number, suffix); ok {
			number, unit = strings.TrimSpace(rest), factor
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 1 || n > math.MaxInt64/unit || n*unit > maxSize {
		return errSize
	}
	*s = Size(n * unit)
	return nil
}

// entry is one key of a mapping whose order is kept.
type entry[T any] struct {
	Name  string
	Value T
}

// ordered is a mapping in the order of the file.
type ordered[T any] []entry[T]

// get returns the value of a name, or nil.
func (o ordered[T]) get(name string) *T {
	for i := range o {
		if o[i].Name == name {
			return &o[i].Value
		}
	}
	return nil
}
