package authorize

import (
	"reflect"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// object is a CEL map in which a member that is absent still reads as something:
// null for the arguments, the specification's default for annotations. has() and
// `in` keep telling what is there. It deliberately lacks the Find method of
// traits.Mapper, which would make CEL report an absent member as an error.
type object struct {
	inner traits.Mapper
	// absent is what a member that is not there reads as.
	absent func(name string) ref.Val
}

func newObject(members map[string]any, absent func(string) ref.Val) ref.Val {
	value := asValue(members)
	mapper, ok := value.(traits.Mapper)
	if !ok {
		return value // an error, which is a value too
	}
	return &object{inner: mapper, absent: absent}
}

func absentIsNull(string) ref.Val { return types.NullValue }

// Get returns a member, or what it reads as when absent.
func (o *object) Get(index ref.Val) ref.Val {
	if value, found := o.inner.Find(index); found {
		return value
	}
	name, ok := index.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(index)
	}
	return o.absent(string(name))
}

// IsSet tells has() whether a member is there.
func (o *object) IsSet(field ref.Val) ref.Val { return o.inner.Contains(field) }

// Contains is the `in` operator.
func (o *object) Contains(value ref.Val) ref.Val { return o.inner.Contains(value) }

// Iterator walks the names of the members that are there.
func (o *object) Iterator() traits.Iterator { return o.inner.Iterator() }

// Size counts the members that are there.
func (o *object) Size() ref.Val { return o.inner.Size() }

// ConvertToNative, ConvertToType, Equal, Type and Value are those of the map.
func (o *object) ConvertToNative(t reflect.Type) (any, error) { return o.inner.ConvertToNative(t) }

// ConvertToType converts the map.
func (o *object) ConvertToType(t ref.Type) ref.Val { return o.inner.ConvertToType(t) }

// Equal compares the members that are there.
func (o *object) Equal(other ref.Val) ref.Val {
	if that, ok := other.(*object); ok {
		return o.inner.Equal(that.inner)
	}
	return o.inner.Equal(other)
}

// Type is the type of CEL's maps.
func (o *object) Type() ref.Type { return o.inner.Type() }

// Value is the map in Go's terms.
func (o *object) Value() any { return o.inner.Value() }

// newAnnotations is the `tool` of a known tool. The hints that MCP defines read
// as their defaults where the server is silent (2026-07-28 schema,
// ToolAnnotations); any other member that is absent is an error.
func newAnnotations(annotations map[string]any) ref.Val {
	readOnly, _ := annotations["readOnlyHint"].(bool)
	return newObject(annotations, func(name string) ref.Val {
		switch name {
		case "readOnlyHint", "idempotentHint":
			return types.False
		case "destructiveHint":
			return types.Bool(!readOnly)
		case "openWorldHint":
			return types.True
		default:
			return types.NewErr("the tool has no annotation %q", name)
		}
	})
}
