package runtime

import "sync"

// imageCache keeps what is known of images by digest, so that a launch asks
// containerd only what a name stands for. What a digest says never changes;
// whether it is still unpacked may.
type imageCache struct {
	mu    sync.Mutex
	known map[string]*imageEntry
}

type imageEntry struct {
	mu  sync.Mutex // held while it is found out, so that it is found out once
	img *Image
}

// get returns the image, calling find when it is not known.
func (c *imageCache) get(key string, find func() (*Image, error)) (*Image, error) {
	e := c.entry(key)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.img != nil {
		return e.img, nil
	}
	img, err := find()
	if err == nil {
		e.img = img
	}
	return img, err
}

func (c *imageCache) entry(key string) *imageEntry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		c.known = make(map[string]*imageEntry)
	}
	e := c.known[key]
	if e == nil {
		e = &imageEntry{}
		c.known[key] = e
	}
	return e
}

// forget makes the next get find out again.
func (c *imageCache) forget(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known, key)
}
