package apply

import "fmt"

// catalog is which groups exist beside the first one.
type catalog struct{}

// apply executes a command of the catalog and returns its answer.
func (c *catalog) apply(data []byte) (answer []byte, err error) {
	return nil, fmt.Errorf("%w: command %x of the catalog", ErrMalformed, data)
}

func (c *catalog) appendTo(dst []byte) []byte { return dst }

func (c *catalog) parse(src []byte) error {
	d := decoder{rest: src}
	return d.end("catalog")
}
