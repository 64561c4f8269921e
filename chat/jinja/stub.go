package jinja

type (
	namespace struct{ vars *Dict }
	macro     struct{}
	loop      struct{}
	function  struct{}
)
