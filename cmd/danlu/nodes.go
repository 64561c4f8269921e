package main

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/spf13/pflag"

	"danlu/engine/xla/hosts"
	"danlu/internal/locale"
)

// nodeFlags say which of several processes this is.
type nodeFlags struct {
	nodes, rank int
	coordinator string
}

func (n *nodeFlags) flags(f *pflag.FlagSet) {
	f.IntVar(&n.nodes, "nodes", 0, locale.Text("processes of the run; 0: what torchrun or Slurm set, else 1", "本次运行的进程数；0 表示取 torchrun 或 Slurm 的变量，否则为 1"))
	f.IntVar(&n.rank, "node-rank", 0, locale.Text("which of them this is, from 0", "本进程的序号，从 0 起"))
	f.StringVar(&n.coordinator, "coordinator", "", locale.Text("HOST:PORT of rank 0", "0 号进程的 主机:端口"))
}

// launchers are the variables in which launchers say what the flags say.
var launchers = []struct{ nodes, rank, host, port string }{
	{"WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"},                                   // torchrun
	{"SLURM_NTASKS", "SLURM_PROCID", "SLURM_LAUNCH_NODE_IPADDR", "DANLU_COORDINATOR_PORT"}, // srun
}

const defaultPort = "29400"

// options are those of the run, nil for a run of one process.
func (n *nodeFlags) options() (*hosts.Options, error) {
	o := hosts.Options{Nodes: n.nodes, Rank: n.rank, Coordinator: n.coordinator}
	for _, l := range launchers {
		if o.Nodes > 0 {
			break
		}
		text, host := os.Getenv(l.nodes), os.Getenv(l.host)
		if text == "" || host == "" {
			continue
		}
		var err error
		if o.Nodes, err = strconv.Atoi(text); err != nil {
			return nil, fmt.Errorf("%s: want a number of processes, got %q", l.nodes, text)
		}
		if o.Rank, err = strconv.Atoi(os.Getenv(l.rank)); err != nil {
			return nil, fmt.Errorf("%s: want a rank, got %q", l.rank, os.Getenv(l.rank))
		}
		o.Coordinator = net.JoinHostPort(host, cmp.Or(os.Getenv(l.port), defaultPort))
	}
	if o.Nodes <= 1 && n.nodes >= 0 {
		return nil, nil
	}
	if o.Coordinator == "" {
		return nil, fmt.Errorf("--coordinator: %d processes need the HOST:PORT of rank 0", o.Nodes)
	}
	return &o, nil
}
