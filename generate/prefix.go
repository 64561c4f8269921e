package generate

import (
	"container/list"
	"encoding/binary"
	"strconv"
)

// sharing is what a runner knows of the texts in its cache: a tree whose nodes are full pages, each below the page of the
// tokens before it. Keys and values depend on the tokens up to theirs and nothing else, to the bit, so that a sequence
// can take over pages that another one wrote. Pages without a user stay until their room is needed, the least recently
// used first.
type sharing struct {
	on     bool             // the model's keys and values do not depend on how the text goes on
	roots  map[string]*page // by scope
	idle   *list.List       // pages without a user, the one to go next in front
	scopes int              // that Scope has named
}

// page is a full page of the cache.
type page struct {
	at       int32  // its number
	tokens   string // little-endian ids
	before   *page  // nil for a root, which is no page of the cache
	scope    string // of a root
	next     map[string]*page
	users    int
	idleness *list.Element // nil while it has users
}

func newSharing(on bool) sharing {
	return sharing{on: on, roots: map[string]*page{}, idle: list.New()}
}

// spell is a page's tokens as a key.
func spell(ids []int32) string {
	b := make([]byte, 0, 4*len(ids))
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint32(b, uint32(id))
	}
	return string(b)
}

// Scope is a scope that no text has been in: of texts that share their beginnings with each other alone, as those of one
// state of weights that are trained.
func (r *Runner) Scope() string {
	r.sharing.scopes++
	return "scope " + strconv.Itoa(r.sharing.scopes)
}

// Shares reports whether texts of this model can share their beginnings, whatever they go on with.
func (r *Runner) Shares() bool { return r.sharing.on }

// Cached is the number of text's first tokens, its last one excluded, that Adopt would find.
func (r *Runner) Cached(text []int32, scope string) int {
	at, n := r.sharing.roots[scope], r.opts.PageLen
	tokens := 0
	for at != nil && tokens+n < len(text) {
		if at = at.next[spell(text[tokens:tokens+n])]; at != nil {
			tokens += n
		}
	}
	return tokens
}

// Shareable is the number of text's first tokens, its last one excluded, that a sequence of another text could share.
func (r *Runner) Shareable(other, text []int32) int {
	n := 0
	if !r.sharing.on {
		return 0
	}
	for n < len(other) && n < len(text)-1 && other[n] == text[n] {
		n++
	}
	return n - n%r.opts.PageLen
}

// Adopt gives an empty sequence the pages that hold the beginning of text, its last token excluded, and returns their
// number of tokens. From then on the sequence shares its own full pages: at Share and at Close. Texts of another scope
// are apart, as those of another adapter or with other pictures have to be. Where the first tokens see each other both ways, or keys depend on
// the length that the text is to have, nothing is shared; nor do texts with pictures share anything.
func (r *Runner) Adopt(s *Sequence, text []int32, scope string) int {
	if !r.sharing.on || s.Prefix > 0 || s.Pictures != nil {
		return 0
	}
	if s.root = r.sharing.roots[scope]; s.root == nil {
		s.root = &page{scope: scope, next: map[string]*page{}}
		r.sharing.roots[scope] = s.root
	}
	s.root.users++
	for at, n := s.root, r.opts.PageLen; len(s.IDs)+n < len(text); {
		ids := text[len(s.IDs) : len(s.IDs)+n]
		if at = at.next[spell(ids)]; at == nil {
			break
		}
		r.sharing.use(at)
		s.shared, s.pages, s.IDs = append(s.shared, at), append(s.pages, at.at), append(s.IDs, ids...)
	}
	return len(s.IDs)
}

// Share lets other sequences adopt the full pages of one that has adopted.
func (r *Runner) Share(s *Sequence) {
	if s.root == nil {
		return
	}
	n := r.opts.PageLen
	for i := len(s.shared); (i+1)*n <= len(s.IDs); i++ {
		at := s.root
		if i > 0 {
			at = s.shared[i-1]
		}
		key := spell(s.IDs[i*n : (i+1)*n])
		p := at.next[key]
		if p == nil {
			p = &page{at: s.pages[i], tokens: key, before: at, next: map[string]*page{}}
			at.next[key] = p
		} else { // another sequence has read the same
			r.free = append(r.free, s.pages[i])
			s.pages[i] = p.at
		}
		r.sharing.use(p)
		s.shared = append(s.shared, p)
	}
}

// part ends a sequence's sharing.
func (r *Runner) part(s *Sequence) {
	if s.root != nil {
		s.root.users--
		r.sharing.leave(s.root)
		s.root = nil
	}
}

func (x *sharing) use(p *page) {
	if p.users++; p.idleness != nil {
		x.idle.Remove(p.idleness)
		p.idleness = nil
	}
}

// release is use's inverse. A sequence releases its last page first, so that a page is always behind those that follow
// it in the text: the front of the idle pages has none.
func (x *sharing) release(p *page) {
	if p.users--; p.users == 0 {
		p.idleness = x.idle.PushBack(p)
	}
}

// forget takes a page that nothing follows out of the tree.
func (x *sharing) forget(p *page) {
	if p.idleness != nil {
		x.idle.Remove(p.idleness)
	}
	delete(p.before.next, p.tokens)
	x.leave(p.before)
}

// leave drops the root of a scope that no sequence and no page belongs to.
func (x *sharing) leave(root *page) {
	if root.before == nil && root.users == 0 && len(root.next) == 0 {
		delete(x.roots, root.scope)
	}
}

// newPage finds a page for a sequence to write; ok is false where all are in use.
func (r *Runner) newPage() (at int32, ok bool) {
	if n := len(r.free); n > 0 {
		at = r.free[n-1]
		r.free = r.free[:n-1]
		return at, true
	}
	oldest := r.sharing.idle.Front()
	if oldest == nil {
		return 0, false
	}
	p := oldest.Value.(*page)
	r.sharing.forget(p)
	return p.at, true
}

// drop takes the last page from a sequence.
func (r *Runner) drop(s *Sequence) {
	last := len(s.pages) - 1
	if last < len(s.shared) {
		r.sharing.release(s.shared[last])
		s.shared = s.shared[:last]
	} else {
		r.free = append(r.free, s.pages[last])
	}
	s.pages = s.pages[:last]
}

// own makes a sequence's last page its own, so that it can be written again; false where others use it or go on from it.
func (r *Runner) own(s *Sequence) bool {
	last := len(s.pages) - 1
	if last >= len(s.shared) {
		return true
	}
	p := s.shared[last]
	if p.users > 1 || len(p.next) > 0 {
		return false
	}
	r.sharing.forget(p)
	s.shared = s.shared[:last]
	return true
}
