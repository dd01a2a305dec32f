//! Downloads packs: many small files in one call.
//!
//! A pack loses nothing: what it does not bring whole goes back to the queue, to be asked for by itself.

use std::{
    collections::VecDeque,
    io::Read,
    sync::{Arc, mpsc::SyncSender},
};

use super::{
    super::{queue::Task, spool::SpooledDownload},
    Downloaded, Downloads, hand_over, report_gone_peer,
};
use crate::{
    download_dir::Claim,
    error::CallError,
    file_name::FileName,
    format,
    lock::lock,
    pack::PackedFile,
    peer_client::{self, DownloadSink},
};

impl<'a> Downloads<'a> {
    /// Downloads a pack: what comes whole is committed, the rest waits again, each file by itself.
    ///
    /// The files come in the order in which they were asked for, some left out perhaps; so one that is not among those
    /// still to come was never asked for, or came before.
    pub(super) fn work_through_pack(&self, pack: Vec<Task>, sender: &SyncSender<Downloaded<'a>>) {
        let asked = pack.len();
        let number = pack[0].peer;
        let peer = &self.run.peers[number];
        let names: Vec<FileName> = pack.iter().map(|task| task.file_name.clone()).collect();
        let claim = match self.run.dir.claim_bytes(pack.iter().filter_map(|task| task.size).sum()) {
            Ok(claim) => Arc::new(claim),
            Err(error) => {
                self.change(|queue| queue.end_call(number, None));
                for task in &pack {
                    self.fail_here(task, &error);
                }
                return;
            }
        };
        let mut to_come = VecDeque::from(pack);
        let mut missing = Vec::new();
        let result = self.run.client.download_pack(peer, &names, |file, content| {
            let found = to_come.iter().position(|task| task.file_name.as_str().as_bytes() == file.name);
            let found = found.ok_or_else(|| CallError::Malformed("a file that was not asked for".to_owned()))?;
            missing.extend(to_come.drain(..found));
            let task = to_come.pop_front().expect("it was found");
            match self.receive(&task, &claim, &file, content) {
                Ok((file, bytes)) => hand_over(Downloaded { task, file, bytes }, sender),
                Err(CallError::Local(error)) => self.fail_here(&task, &error),
                Err(failure) => {
                    missing.push(task);
                    return Err(failure);
                }
            }
            Ok(())
        });
        missing.extend(to_come);
        self.change(|queue| queue.end_call(number, result.as_ref().err()));
        if self.run.interruption.has_come() || lock(&self.queue).is_stopped() {
            return;
        }
        let is_useless = result.is_ok() && missing.len() == asked;
        match result {
            Ok(()) => log::debug!("fetched {} from {peer} in a pack", format::count(asked - missing.len(), "file")),
            Err(failure) if failure.is_break() || failure.is_silence() || matches!(failure, CallError::Private(_)) => {
                log::debug!("could not fetch a pack from {peer}: {failure}");
            }
            Err(failure) => {
                log::warn!("could not fetch a pack from {peer}: {failure}; its files are fetched one by one");
                self.change(|queue| queue.stop_packs(number));
            }
        }
        let lost = self.change(|queue| {
            if is_useless {
                queue.stop_packs(number);
            }
            queue.unpack(&missing) + queue.give_up_unanswering(number)
        });
        report_gone_peer(peer, lost);
    }

    /// Receives one file of a pack: what came, and how many bytes that is.
    fn receive(
        &self,
        task: &Task,
        claim: &Arc<Claim>,
        packed: &PackedFile,
        content: &mut dyn Read,
    ) -> Result<(SpooledDownload<'a>, u64), CallError> {
        let progress = self.progress().file(&task.file_name);
        let mut file = SpooledDownload::new(self.run.dir, task.clone(), claim, progress, &self.files);
        if let Some(time) = packed.modified {
            file.set_modified(time);
        }
        let copied = peer_client::copy(content, packed.size, &mut file);
        let bytes = file.check(copied)?;
        Ok((file, bytes))
    }
}
