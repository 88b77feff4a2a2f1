package dir

import "golang.org/x/sys/unix"

// elsewhere are file systems that others may write to without this kernel seeing it, by
// their number in statfs.
var elsewhere = map[int64]string{
	unix.NFS_SUPER_MAGIC:   "NFS",
	unix.SMB_SUPER_MAGIC:   "SMB",
	unix.SMB2_SUPER_MAGIC:  "SMB",
	unix.CIFS_SUPER_MAGIC:  "SMB",
	unix.CEPH_SUPER_MAGIC:  "Ceph",
	unix.AFS_SUPER_MAGIC:   "AFS",
	unix.AFS_FS_MAGIC:      "AFS",
	unix.CODA_SUPER_MAGIC:  "Coda",
	unix.V9FS_MAGIC:        "9P",
	unix.FUSE_SUPER_MAGIC:  "FUSE",
	unix.OCFS2_SUPER_MAGIC: "OCFS2",
	0x0bd00bd0:             "Lustre",
	0x47504653:             "GPFS",
	0x01161970:             "GFS2",
	0x19830326:             "BeeGFS",
}

// network is the name of the file system that a path is on if others may write to it
// unseen.
func network(path string) (name string, ok bool) {
	var s unix.Statfs_t
	if unix.Statfs(path, &s) != nil {
		return "", false
	}
	name, ok = elsewhere[int64(s.Type)&0xffffffff]
	return name, ok
}
