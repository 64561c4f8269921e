//go:build noxla

package pjrt

import "errors"

func open(string) (uintptr, error) {
	return 0, errors.New("this danlu was built without plugins (build tag noxla)")
}

func invoke(uintptr, ...uintptr) uintptr { panic("pjrt: built without plugins") }

func callback(any) uintptr { panic("pjrt: built without plugins") }
