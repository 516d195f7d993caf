//! Forward passes: a batch is cut into passes that the arena has room for, and each pass runs through all layers.

use attention::KvCache;
use device_mem::{DeviceBuffer, View};
use kernels_nn::{NnError, embed, linear, rms_norm};
use kernels_rope::Positions;

use crate::GlmError;
use crate::arena::{Activations, Rows};
use crate::draw::Draw;
use crate::layer::Part;
use crate::model::{GlmModel, Logits, Sequence, TokenId};
use crate::observe::{Observed, Observer};
use crate::passes::passes;

impl GlmModel {
    /// Runs `tokens` after what `cache` holds. Gives the last token's logits `[1, vocab]`.
    ///
    /// # Errors
    /// [`GlmError::NoTokens`], [`GlmError::ContextFull`], a token outside the vocabulary, or what an operation reports.
    /// The cache is then as long as before, and the call may be repeated.
    pub fn forward(&self, tokens: &[TokenId], cache: &mut KvCache) -> Result<Logits, GlmError> {
        self.forward_batch(&mut [Sequence { tokens, cache, position_offset: 0 }])
    }

    /// Runs several sequences, packed without padding. Gives the logits `[sequences, vocab]` of each one's last token.
    ///
    /// # Errors
    /// As [`GlmModel::forward`]; no sequence's cache grows.
    pub fn forward_batch(&self, batch: &mut [Sequence<'_>]) -> Result<Logits, GlmError> {
        self.check(batch)?;
        let vocab = self.config.vocab_size;
        let mut buffer = DeviceBuffer::zeroed(&self.device, batch.len() * vocab)?;
        let arena = &mut *self.arena();
        self.run(&mut arena.ids, &mut arena.activations, batch, |sequence, last| {
            let row = buffer.view_mut(sequence * vocab..(sequence + 1) * vocab)?;
            linear(last, &self.output, row)?;
            Ok(())
        })?;
        Ok(Logits { buffer, vocab })
    }

    /// Runs one sequence in one pass and gives the logits of all its tokens, `[tokens, vocab]`. The observer, if any, is
    /// shown the tensors of every layer. It allocates what it computes in.
    ///
    /// # Errors
    /// As [`GlmModel::forward`].
    pub fn forward_all(
        &self,
        sequence: Sequence<'_>,
        observer: Option<&mut dyn Observer>,
    ) -> Result<Logits, GlmError> {
        self.check(std::slice::from_ref(&sequence))?;
        let (tokens, vocab) = (sequence.tokens.len(), self.config.vocab_size);
        let ids = DeviceBuffer::from_host_vec(&self.device, sequence.tokens.to_vec())?;
        let mut activations = Activations::new(&self.config, &self.device, tokens)?;
        let mut buffer = DeviceBuffer::zeroed(&self.device, tokens * vocab)?;

        let mut observed = Observed::new(observer);
        let first = sequence.position_offset as usize + sequence.cache.len() as usize;
        observed.table(&self.rope, first, tokens)?;
        let mut rows = activations.rows(tokens)?;
        let mut part = self.part(sequence.cache, sequence.position_offset, tokens)?;
        self.pass(ids.as_view(), &mut rows, std::slice::from_mut(&mut part), &mut observed)?;
        linear(rows.normed.as_view(), &self.output, buffer.as_view_mut()?)?;
        self.expect_whole()?;
        part.commit()?;
        Ok(Logits { buffer, vocab })
    }

    /// Runs a prompt after what `cache` holds, and draws the token that follows it.
    pub(crate) fn prefill(
        &self,
        cache: &mut KvCache,
        prompt: &[TokenId],
        draw: &mut Draw,
    ) -> Result<TokenId, GlmError> {
        let mut batch = [Sequence { tokens: prompt, cache, position_offset: 0 }];
        self.check(&batch)?;
        let arena = &mut *self.arena();
        let mut token = None;
        self.run(&mut arena.ids, &mut arena.activations, &mut batch, |_, last| {
            linear(last, &self.output, arena.logits.as_view_mut()?)?;
            draw.draw(&arena.logits)?;
            token = Some(draw.token(&arena.logits)?);
            Ok(())
        })?;
        token.ok_or(GlmError::NoTokens)
    }

    /// Fails where a batch cannot be run, before anything is.
    fn check(&self, batch: &[Sequence<'_>]) -> Result<(), GlmError> {
        if batch.is_empty() {
            return Err(GlmError::NoTokens);
        }
        for Sequence { tokens, cache, position_offset } in batch {
            self.positions(cache, *position_offset, tokens.len())?;
        }
        // A kernel could not refuse a token.
        let vocab = self.config.vocab_size;
        let tokens = batch.iter().flat_map(|sequence| sequence.tokens);
        match tokens.enumerate().find(|(_, id)| **id as usize >= vocab) {
            Some((index, &id)) => Err(NnError::TokenId { id, index, vocab }.into()),
            None => Ok(()),
        }
    }

    /// Runs a batch that was checked; `last` is given each sequence's last token, final norm and all, once its logits can be
    /// taken. Caches grow by each pass behind it; after an error they are as long as before.
    fn run(
        &self,
        ids: &mut DeviceBuffer<u32>,
        activations: &mut Activations,
        batch: &mut [Sequence<'_>],
        last: impl FnMut(usize, View<'_, f32>) -> Result<(), GlmError> + Send,
    ) -> Result<(), GlmError> {
        let before: Vec<u32> = batch.iter().map(|sequence| sequence.cache.len()).collect();
        let done = self.in_pool(|| self.run_passes(ids, activations, batch, last));
        let done = done.and_then(|()| self.expect_whole());
        if done.is_err() {
            for (sequence, len) in batch.iter_mut().zip(before) {
                sequence.cache.truncate(len)?;
            }
        }
        done
    }

    fn run_passes(
        &self,
        ids: &mut DeviceBuffer<u32>,
        activations: &mut Activations,
        batch: &mut [Sequence<'_>],
        mut last: impl FnMut(usize, View<'_, f32>) -> Result<(), GlmError>,
    ) -> Result<(), GlmError> {
        let hidden = self.config.hidden_size;
        let lengths: Vec<usize> = batch.iter().map(|sequence| sequence.tokens.len()).collect();
        for pass in passes(&lengths, ids.len()) {
            let (mut tokens, mut parts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
            let first = pass.first().map_or(0, |share| share.sequence);
            for (share, sequence) in pass.iter().zip(batch.iter_mut().skip(first)) {
                let whole = sequence.tokens.len();
                tokens.extend(sequence.tokens.get(share.tokens.clone()).into_iter().flatten());
                parts.push(self.part(sequence.cache, sequence.position_offset, share.tokens.len())?);
                if share.tokens.end == whole {
                    ends.push((share.sequence, tokens.len()));
                }
            }
            ids.view_mut(0..tokens.len())?.copy_from_host(&tokens)?;
            let mut rows = activations.rows(tokens.len())?;
            self.pass(ids.view(0..tokens.len())?, &mut rows, &mut parts, &mut Observed::nothing())?;
            for (sequence, end) in ends {
                last(sequence, rows.normed.as_view().slice((end - 1) * hidden..end * hidden)?)?;
            }
            parts.into_iter().try_for_each(Part::commit)?;
        }
        Ok(())
    }

    /// Embeds `ids` `[tokens]` and runs them through all layers; `rows.normed` is then what the output layer takes. Nothing
    /// is committed.
    fn pass(
        &self,
        ids: View<'_, u32>,
        rows: &mut Rows<'_>,
        parts: &mut [Part<'_>],
        observed: &mut Observed<'_>,
    ) -> Result<(), GlmError> {
        let hidden = self.config.hidden_size;
        embed(&self.embedding, ids, rows.x.reborrow())?;
        observed.rows("embed", hidden, rows.x.as_view())?;
        // Each layer norms what the next one takes; the last one, what the output takes.
        let norms = self.layers.iter().map(|layer| &layer.input_norm).chain([&self.final_norm]);
        let first_norm = norms.clone().next().unwrap_or(&self.final_norm);
        rms_norm(rows.x.as_view(), first_norm, rows.normed.reborrow())?;
        for (index, (layer, next_norm)) in self.layers.iter().zip(norms.skip(1)).enumerate() {
            let mut observed = observed.layer(index, self.shape);
            layer.forward(index, rows, parts, &self.rope, next_norm, &mut observed)?;
        }
        observed.rows("final_norm", hidden, rows.normed.as_view())
    }

    /// The next `tokens` of a sequence.
    fn part<'a>(
        &self,
        cache: &'a mut KvCache,
        position_offset: u32,
        tokens: usize,
    ) -> Result<Part<'a>, GlmError> {
        let positions = self.positions(cache, position_offset, tokens)?;
        Ok(Part { cache, positions })
    }

    /// The positions of the next `tokens` of a sequence, checked against table and cache.
    pub(crate) fn positions(
        &self,
        cache: &KvCache,
        position_offset: u32,
        tokens: usize,
    ) -> Result<Positions, GlmError> {
        let (used, capacity) = (cache.len(), cache.capacity());
        if tokens == 0 {
            return Err(GlmError::NoTokens);
        }
        let fits = u32::try_from(tokens).ok().filter(|&tokens| tokens <= capacity.saturating_sub(used));
        let count = fits.ok_or(GlmError::ContextFull { tokens, used, capacity })?;
        let first = position_offset.checked_add(used);
        let first = first.ok_or(GlmError::PositionOverflow { offset: position_offset, used })?;
        Ok(Positions::span(&self.rope, first, count)?)
    }
}
