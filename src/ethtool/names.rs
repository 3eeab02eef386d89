//! The words of `ethtool`, apart from features.

/// Writes an enum whose variants are words of `ethtool`.
macro_rules! named {
    ($(#[$doc:meta])* $vis:vis $name:ident { $($variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name {
            $($variant,)+
        }

        impl $name {
            pub(super) const ALL: &[$name] = &[$(Self::$variant,)+];

            /// What `ethtool` calls it.
            $vis fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            pub(super) fn named(text: &str) -> Option<Self> {
                Self::ALL.iter().find(|it| it.name() == text).copied()
            }

            pub(super) fn names() -> Vec<&'static str> {
                Self::ALL.iter().map(|it| it.name()).collect()
            }
        }
    };
}

named! {
    /// A ring of descriptors.
    pub Ring {
        Rx = "rx",
        RxMini = "rx-mini",
        RxJumbo = "rx-jumbo",
        Tx = "tx",
    }
}

named! {
    /// A kind of queues.
    pub Channel {
        Rx = "rx",
        Tx = "tx",
        Other = "other",
        Combined = "combined",
    }
}

named! {
    /// A setting of Ethernet's flow control.
    pub Pause {
        Autoneg = "autoneg",
        Rx = "rx",
        Tx = "tx",
    }
}

named! {
    /// Whether both ends may send at once.
    pub Duplex {
        Half = "half",
        Full = "full",
    }
}

named! {
    /// A setting of `--coalesce` that is on or off.
    pub CoalesceSwitch {
        AdaptiveRx = "adaptive-rx",
        AdaptiveTx = "adaptive-tx",
        CqeModeRx = "cqe-mode-rx",
        CqeModeTx = "cqe-mode-tx",
    }
}

named! {
    /// A setting of `--coalesce` that is a number.
    pub CoalesceNumber {
        RxUsecs = "rx-usecs",
        RxFrames = "rx-frames",
        RxUsecsIrq = "rx-usecs-irq",
        RxFramesIrq = "rx-frames-irq",
        TxUsecs = "tx-usecs",
        TxFrames = "tx-frames",
        TxUsecsIrq = "tx-usecs-irq",
        TxFramesIrq = "tx-frames-irq",
        StatsBlockUsecs = "stats-block-usecs",
        PktRateLow = "pkt-rate-low",
        RxUsecsLow = "rx-usecs-low",
        RxFramesLow = "rx-frames-low",
        TxUsecsLow = "tx-usecs-low",
        TxFramesLow = "tx-frames-low",
        PktRateHigh = "pkt-rate-high",
        RxUsecsHigh = "rx-usecs-high",
        RxFramesHigh = "rx-frames-high",
        TxUsecsHigh = "tx-usecs-high",
        TxFramesHigh = "tx-frames-high",
        SampleInterval = "sample-interval",
        TxAggrMaxBytes = "tx-aggr-max-bytes",
        TxAggrMaxFrames = "tx-aggr-max-frames",
        TxAggrTimeUsecs = "tx-aggr-time-usecs",
    }
}

named! {
    /// What the first word tells.
    pub(super) Command {
        Features = "--offload",
        Ring = "--set-ring",
        Channels = "--set-channels",
        Coalesce = "--coalesce",
        Pause = "--pause",
        Change = "--change",
    }
}

named! {
    /// A setting of `--change`.
    pub(super) ChangeKey {
        Speed = "speed",
        Duplex = "duplex",
        Autoneg = "autoneg",
    }
}

impl Command {
    /// The other names of the commands.
    const ALIASES: [(&str, Command); 7] = [
        ("-K", Command::Features),
        ("--features", Command::Features),
        ("-G", Command::Ring),
        ("-L", Command::Channels),
        ("-C", Command::Coalesce),
        ("-A", Command::Pause),
        ("-s", Command::Change),
    ];

    pub(super) fn any_named(text: &str) -> Option<Self> {
        Self::named(text).or_else(|| Self::ALIASES.iter().find(|(it, _)| *it == text).map(|(_, it)| *it))
    }
}
